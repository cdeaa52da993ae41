"""The scheduler alone: random calls, checked against what must always hold."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from services.errors import DeadlineExceeded, QueueFull, Unavailable
from services.inference.engine import (
    Admitted,
    Ended,
    EndReason,
    Failed,
    Priority,
    PromptScored,
    Reused,
    Token,
)
from services.inference.engines.sequences import GroupState, Stage
from services.inference.engines.steps import LEAST_PREFILL, Phase
from tests.unit.inference.engines.scheduler_bench import EOS, Bench, request
from tests.unit.inference.engines.symbolic_memory import continuation


def test_prefill_goes_in_parts_beside_decoding() -> None:
    bench = Bench(step_tokens=17)
    bench.submit(request((3, 9)))
    assert bench.step() == [(Phase.PREFILL, [3])]
    bench.submit(request((40, 2)))
    assert bench.step() == [(Phase.PREFILL, [16]), (Phase.DECODE, [1])]
    assert bench.step() == [(Phase.PREFILL, [16]), (Phase.DECODE, [1])]
    assert bench.step() == [(Phase.PREFILL, [8]), (Phase.DECODE, [1])]
    assert bench.step() == [(Phase.DECODE, [1, 1])]


def test_prompts_share_a_pass_within_the_budget_padding_included() -> None:
    bench = Bench(slots=4, step_tokens=16)
    for length in (5, 4, 8, 3):
        bench.submit(request((length, 1)))
    assert bench.step() == [(Phase.PREFILL, [5, 4]), (Phase.PREFILL, [6])]
    assert bench.step() == [(Phase.PREFILL, [2, 3])]


def test_prompts_get_on_however_many_decode() -> None:
    bench = Bench(slots=5, step_tokens=4)
    for _ in range(4):
        bench.submit(request((3, 30)))
        bench.step()
    bench.submit(request((40, 1)))
    assert bench.step() == [(Phase.PREFILL, [LEAST_PREFILL]), (Phase.DECODE, [1] * 4)]


def test_principals_read_their_prompts_in_turn_and_priorities_first() -> None:
    bench = Bench(slots=6, step_tokens=16)
    groups = {
        name: bench.submit(request((length, 1), principal=who, priority=priority))
        for name, length, who, priority in (
            ("long a", 60, "a", Priority.NORMAL),
            ("low", 16, "d", Priority.LOW),
            ("b", 32, "b", Priority.NORMAL),
            ("c", 16, "c", Priority.NORMAL),
            ("high", 16, "a", Priority.HIGH),
        )
    }
    order: list[str] = []
    while bench.counts() != (0, 0):
        bench.step()
        order += [name for name, group in groups.items() if name not in order and group.over]
    assert order == ["high", "c", "b", "long a", "low"]


def test_scored_prompts_go_alone() -> None:
    bench = Bench(slots=4, step_tokens=64)
    bench.submit(request((5, 1)))
    bench.submit(request((6, 1), scored=True))
    bench.submit(request((5, 1)))
    assert bench.step() == [(Phase.SCORE, [6]), (Phase.PREFILL, [5, 5])]


def test_eos_length_and_zero() -> None:
    bench = Bench(slots=3)
    eos, length, zero = (bench.submit(request((2, most))) for most in (9, 1, 0))
    bench.step(EOS)
    assert bench.heard[eos] == [Admitted(), Ended(0, EndReason.EOS)]
    assert bench.heard[zero] == [Admitted(), Ended(0, EndReason.LENGTH)]
    assert bench.heard[length] == [Admitted(), Ended(0, EndReason.EOS)]


def test_higher_priority_first_and_principals_in_turn() -> None:
    bench = Bench(slots=1, queue_limit=10)
    bench.submit(request((1, 1)))
    bench.step()
    waiting = {
        name: bench.submit(request((1, 1), principal=who, priority=priority))
        for name, who, priority in (
            ("a1", "a", Priority.NORMAL),
            ("a2", "a", Priority.NORMAL),
            ("low", "c", Priority.LOW),
            ("b1", "b", Priority.NORMAL),
            ("a3", "a", Priority.NORMAL),
            ("b2", "b", Priority.NORMAL),
            ("high", "a", Priority.HIGH),
        )
    }
    order: list[str] = []
    while bench.counts() != (0, 0):
        bench.step()
        order += [n for n, g in waiting.items() if n not in order and g.over]
    assert order == ["high", "a1", "b1", "a2", "b2", "a3", "low"]


def test_a_large_group_is_not_overtaken() -> None:
    bench = Bench(slots=2, queue_limit=10)
    bench.submit(request((1, 9), (1, 3)))
    bench.step()
    large = bench.submit(request((1, 2), (1, 2)))
    small = bench.submit(request((1, 1)))
    for _ in range(4):
        bench.step()
        assert bench.heard[small] == bench.heard[large] == []
    while not small.over:
        bench.step()
    assert large.over


def test_a_paused_group_larger_than_the_slots_lets_others_by() -> None:
    bench = Bench(slots=2, queue_limit=10)
    large = bench.submit(request(*[(1, 2)] * 5))
    bench.step()
    bench.scheduler.pause(large)
    bench.scheduler.finish(large, 0, bench.now)
    other = bench.submit(request((1, 1)))
    bench.step()
    bench.step()
    assert other.over
    bench.scheduler.resume(large)
    while not large.over:
        bench.step()
    assert len([e for e in bench.heard[large] if isinstance(e, Ended)]) == 4


def test_retry_comes_from_the_measured_rate() -> None:
    bench = Bench(slots=1, queue_limit=1)
    for _ in range(20):  # ten sequences a second
        bench.submit(request((1, 1)))
        bench.step()
    bench.submit(request((1, 50)))
    bench.submit(request((1, 50)))
    with pytest.raises(QueueFull) as one:
        bench.submit(request((1, 1)))
    assert one.value.retry_after_s == pytest.approx(0.5)
    bench.now += 58  # long ago by now: twenty in sixty seconds
    with pytest.raises(QueueFull) as later:
        bench.submit(request((1, 1)))
    assert later.value.retry_after_s == pytest.approx(3.0, rel=0.1)


def test_completed_groups_are_forgotten_after_a_day() -> None:
    bench = Bench()
    bench.submit(request((1, 1)))
    bench.step()
    assert bench.scheduler.status(bench.now).completed_24h == 1
    assert bench.scheduler.status(bench.now + 25 * 3600).completed_24h == 0


def test_idle_when_there_is_nothing_to_do() -> None:
    bench = Bench()
    assert not bench.scheduler.due(bench.now)
    group = bench.submit(request((1, 9)), deadline=bench.now + 50)
    assert bench.scheduler.due(bench.now)
    bench.step()
    bench.scheduler.pause(group)
    assert not bench.scheduler.due(bench.now)
    assert bench.scheduler.next_deadline() == pytest.approx(150)
    bench.now = 150.0
    assert bench.scheduler.due(bench.now)
    bench.step()
    assert isinstance(bench.heard[group][-1], Failed)
    bench.step()
    assert not bench.scheduler.due(bench.now)


CANCELLED: dict[str, tuple[tuple[int, int], int]] = {
    "reading": ((60, 9), 1),
    "decoding": ((3, 30), 4),
    "reading and decoding": ((30, 30), 3),
    "waiting": ((3, 30), 0),
}
"""What a cancelled request is about: prompt length and max_tokens, and after how many steps."""


@pytest.mark.parametrize("drafted", [0, 8])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("underway", [False, True])
@pytest.mark.parametrize("stage", CANCELLED)
def test_the_step_after_a_cancellation_has_nothing_of_it(
    stage: str, underway: bool, paused: bool, drafted: int
) -> None:
    """Also where it comes while a step computes: the next one is planned without it."""
    size, steps = CANCELLED[stage]
    bench = Bench(slots=4, step_tokens=32, speculative_tokens=drafted)
    other = bench.submit(request((2, 40)))
    bench.step()
    group = bench.submit(request(size, size, kind=1))
    for _ in range(steps):
        bench.step()
    if paused:
        bench.scheduler.pause(group)
    heard = len(bench.heard[group])
    if underway:
        bench.step(between=lambda: bench.scheduler.cancel(group, bench.now))
    else:
        bench.scheduler.cancel(group, bench.now)
    assert bench.counts() == (1, 0)
    assert bench.pool.owned == 1, "its rows are others'"
    assert bench.scheduler.due(bench.now)
    step = bench.scheduler.plan(bench.now)
    computed = [span.sequence for batch in step.batches for span in batch.spans]
    assert computed == other.sequences
    assert step.resident == {other.sequences[0].key}
    bench.take()
    assert len(bench.heard[group]) == heard, "it was told of after its cancellation"
    figures = bench.scheduler.status(bench.now).figures
    assert figures is not None
    assert figures.cancel_s.count == 1


class SchedulerMachine(RuleBasedStateMachine):
    groups = Bundle("groups")

    @initialize(
        slots=st.integers(1, 4),
        queue_limit=st.integers(0, 6),
        kv_tokens=st.sampled_from([0, 257, 300, 400, 514]),
        step_tokens=st.sampled_from([1, 16, 64]),
        speculative_tokens=st.sampled_from([0, 2, 8]),
    )
    def start(
        self,
        slots: int,
        queue_limit: int,
        kv_tokens: int,
        step_tokens: int,
        speculative_tokens: int,
    ) -> None:
        self.bench = Bench(slots, queue_limit, step_tokens, 256, kv_tokens, speculative_tokens)
        self.touched: set[GroupState] = set()

    @rule(
        target=groups,
        sizes=st.lists(st.tuples(st.integers(1, 130), st.integers(0, 120)), min_size=1, max_size=7),
        principal=st.sampled_from("abc"),
        priority=st.sampled_from(Priority),
        kind=st.sampled_from([1, 2, None]),
        scored=st.sampled_from([False, False, True]),
        reuse=st.sampled_from([True, True, False]),
        wait=st.none() | st.floats(0.05, 3),
    )
    def submit(
        self,
        sizes: list[tuple[int, int]],
        principal: str,
        priority: Priority,
        kind: int | None,
        scored: bool,
        reuse: bool,
        wait: float | None,
    ) -> object:
        bench = self.bench
        group = request(
            *sizes[: bench.limits.capacity],
            principal=principal,
            priority=priority,
            kind=kind,
            scored=scored,
            reuse=reuse,
        )
        before = sum(bench.counts())
        try:
            return bench.submit(group, None if wait is None else bench.now + wait)
        except QueueFull:
            assert before + len(group.sequences) > bench.limits.capacity
            assert sum(bench.counts()) == before
            return multiple()

    @rule(group=groups)
    def cancel(self, group: GroupState) -> None:
        self.touched.add(group)
        self.bench.scheduler.cancel(group)
        assert group.over

    @rule(group=groups, index=st.integers(-1, 7))
    def finish(self, group: GroupState, index: int) -> None:
        self.touched.add(group)
        self.bench.scheduler.finish(group, index, self.bench.now)

    @rule(group=groups)
    def pause(self, group: GroupState) -> None:
        self.bench.scheduler.pause(group)

    @rule(group=groups)
    def resume(self, group: GroupState) -> None:
        self.bench.scheduler.resume(group)

    @rule(group=groups)
    def fail(self, group: GroupState) -> None:
        self.bench.scheduler.fail([group], RuntimeError("forward pass"))

    @rule(token=st.sampled_from([EOS, None, None, None, None, None]), times=st.integers(1, 40))
    def step(self, token: int | None, times: int) -> None:
        for _ in range(times - 1):
            self.bench.step()
        self.bench.step(token)

    @rule(
        actions=st.lists(
            st.tuples(
                st.sampled_from(["cancel", "finish", "pause", "pause", "resume", "resume", "fail"]),
                groups,
                st.integers(0, 7),
            ),
            min_size=1,
            max_size=3,
        ),
        token=st.sampled_from([EOS, None, None]),
    )
    def step_while_callers_call(
        self, actions: list[tuple[str, GroupState, int]], token: int | None
    ) -> None:
        def between() -> None:
            for action, group, index in actions:
                if action == "finish":
                    self.finish(group, index)
                else:
                    getattr(self, action)(group)

        self.bench.step(token, between)

    @rule()
    def lose_the_memory(self) -> None:
        self.bench.scheduler.memory_lost(RuntimeError("no memory"))

    @invariant()
    def whoever_can_run_is_not_forgotten(self) -> None:
        """Only what is paused keeps an engine idle, and that only from lower priorities."""
        bench = self.bench
        if bench.scheduler.due(bench.now):
            return
        holders = [
            group.request.priority.value
            for group in bench.heard
            if group.paused and group.staged(Stage.RUNNING)
        ]
        for group in bench.heard:
            if not group.over and not group.paused:
                assert not group.staged(Stage.RUNNING)
                assert max(holders, default=0) > group.request.priority.value

    @invariant()
    def counts_are_exact(self) -> None:
        sequences = [s for group in self.bench.heard for s in group.sequences]
        running = sum(s.stage is Stage.RUNNING for s in sequences)
        waiting = sum(s.stage is Stage.WAITING for s in sequences)
        assert self.bench.counts() == (running, waiting)
        assert running <= self.bench.limits.slots
        assert running + waiting <= self.bench.limits.capacity

    @invariant()
    def rows_are_whose_they_should_be(self) -> None:
        pool = self.bench.pool
        sequences = {s.key: s for group in self.bench.heard for s in group.sequences}
        owned = [row for row in pool.rows if row is not None and row.owner is not None]
        assert len(owned) == pool.owned == self.bench.counts()[0]
        for row in owned:
            assert row.owner is not None
            assert sequences[row.owner].row is row
            assert sequences[row.owner].stage is Stage.RUNNING
        for place, row in enumerate(pool.rows):
            assert row is None or row.place == place
            if row is not None:  # nothing is kept of drafts that were wrong
                held = self.bench.memory.rows[place][: row.length]
                assert held == row.tokens[: row.length]

    @invariant()
    def groups_that_are_over_hold_nothing(self) -> None:
        for group in self.bench.heard:
            assert group.over == all(s.stage is Stage.OVER for s in group.sequences)

    @invariant()
    def events_are_in_order(self) -> None:
        for group, events in self.bench.heard.items():
            if not events:
                continue
            failed = [e for e in events if isinstance(e, Failed)]
            assert isinstance(events[0], Admitted) or events == failed
            assert failed in ([], events[-1:])
            assert sum(isinstance(e, Admitted) for e in events) <= 1
            ended: set[int] = set()
            begun: set[int] = set()
            scored: set[int] = set()
            for event in events:
                if isinstance(event, Token | Ended | PromptScored | Reused):
                    assert event.index not in ended
                if isinstance(event, Token):
                    begun.add(event.index)
                if isinstance(event, PromptScored):
                    assert event.index not in scored | begun
                    scored.add(event.index)
                    prompt = group.sequences[event.index].request.prompt
                    assert [score.token_id for score in event.scores] == prompt[1:]
                if isinstance(event, Reused):
                    assert event.index not in begun
                    assert 0 < event.cached_tokens < group.sequences[event.index].prompt_length
                if isinstance(event, Ended):
                    ended.add(event.index)
            for index, sequence in enumerate(group.sequences):
                count = sum(isinstance(e, Token) and e.index == index for e in events)
                assert count <= sequence.params.max_tokens

    def teardown(self) -> None:
        """What is not cancelled comes to an end by itself: nobody starves, nothing hangs."""
        bench = self.bench
        for group in bench.heard:
            bench.scheduler.resume(group)
        bench.run()
        assert bench.counts() == (0, 0)
        for group, events in bench.heard.items():
            assert group.over
            for index, sequence in enumerate(group.sequences):
                tokens = bench.tokens(group, index)
                assert tokens == continuation(sequence.request.prompt, len(tokens))
            if group in self.touched:
                continue
            last = events[-1]
            if isinstance(last, Failed):
                assert isinstance(last.error, DeadlineExceeded | RuntimeError)
            else:
                ends = [event for event in events if isinstance(event, Ended)]
                assert len(ends) == len(group.sequences)
        assert bench.pool.owned == 0
        bench.scheduler.memory_lost(RuntimeError("no memory"))
        assert len(bench.pool._index) == 0


SchedulerMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSchedulerMachine = SchedulerMachine.TestCase


def test_close_fails_everything() -> None:
    bench = Bench(slots=1)
    running, waiting = bench.submit(request((1, 9))), bench.submit(request((1, 9)))
    bench.step()
    bench.scheduler.close()
    bench.take()
    for group in (running, waiting):
        last = bench.heard[group][-1]
        assert isinstance(last, Failed)
        assert isinstance(last.error, Unavailable)
    assert bench.counts() == (0, 0)
