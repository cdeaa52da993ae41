"""The queue in front of what batches by itself, with a pipeline that only counts."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import DeadlineExceeded, QueueFull
from services.inference.engine import (
    Admitted,
    Ended,
    EndReason,
    EngineEvent,
    Failed,
    GroupRequest,
    Priority,
    Token,
)
from services.inference.engines.admission import Limits
from services.inference.engines.admission_queue import AdmissionQueue
from services.inference.engines.handle import deliver
from services.inference.engines.sequences import GroupState
from tests.conformance.recorder import sequence

EOS = 1
SLOTS = 3


class Counting:
    """Stands where a pipeline is: gives every sequence 10, 11, 12, … until it is dropped."""

    def __init__(self, queue_limit: int = 50) -> None:
        limits = Limits(SLOTS, queue_limit, context_length=64, vocabulary_size=1000)
        self.queue = AdmissionQueue(limits, eos=frozenset({EOS}), now=0.0)
        self.counts: dict[int, int] = {}
        self.heard: dict[GroupState, list[EngineEvent]] = {}
        self.now = 0.0

    def submit(self, *limits: int, deadline: float | None = None, **more: object) -> GroupState:
        heard: list[EngineEvent] = []
        request = GroupRequest([sequence([5], limit) for limit in limits], **more)  # type: ignore[arg-type]
        group = self.queue.submit(request, heard.extend, deadline=deadline, now=self.now)
        self.heard[group] = heard
        return group

    def turn(self) -> None:
        changes = self.queue.plan(self.now)
        for key in changes.dropped:
            self.counts.pop(key, None)
        for one in changes.added:
            assert one.key not in self.counts, "a sequence was started twice"
            self.counts[one.key] = 10
        assert len(self.counts) <= SLOTS, "more sequences than slots"
        assert deliver(self.queue.take_events()) == []

    def step(self) -> None:
        self.now += 1
        self.turn()
        for key in list(self.counts):
            self.queue.accept(key, [self.counts[key]], [], self.now)
            self.counts[key] += 1
        self.turn()

    def tokens(self, group: GroupState, index: int = 0) -> list[int]:
        events = self.heard[group]
        return [e.token_id for e in events if isinstance(e, Token) and e.index == index]


def kinds(events: list[EngineEvent]) -> list[type]:
    return [type(event) for event in events]


def test_a_pause_keeps_tokens_back_and_loses_none() -> None:
    pipeline = Counting()
    group = pipeline.submit(6)
    pipeline.step()
    pipeline.queue.pause(group)
    for _ in range(8):  # it is past its end by now
        pipeline.step()
    assert pipeline.tokens(group) == [10]
    assert pipeline.queue.status(0).running == 1, "a paused sequence lost its slot"
    pipeline.queue.resume(group, pipeline.now)
    pipeline.turn()
    assert pipeline.tokens(group) == [10, 11, 12, 13, 14, 15]
    assert pipeline.heard[group][-1] == Ended(0, EndReason.LENGTH)
    assert pipeline.queue.status(0).running == 0
    pipeline.turn()
    assert pipeline.counts == {}


def test_a_deadline_ends_a_paused_group_without_what_was_kept_back() -> None:
    pipeline = Counting()
    group = pipeline.submit(50, deadline=3.0)
    pipeline.turn()
    pipeline.queue.pause(group)
    for _ in range(4):
        pipeline.step()
    assert kinds(pipeline.heard[group]) == [Admitted, Failed]
    failure = pipeline.heard[group][-1]
    assert isinstance(failure, Failed)
    assert isinstance(failure.error, DeadlineExceeded)
    assert pipeline.counts == {}


@pytest.mark.parametrize(
    ("token", "reason"), [(EOS, EndReason.EOS), (7, EndReason.STOP_TOKEN), (8, None)]
)
def test_end_tokens_are_not_reported(token: int, reason: EndReason | None) -> None:
    pipeline = Counting()
    request = GroupRequest([sequence([5], 9, stop_token_ids=frozenset({7}))])
    heard: list[EngineEvent] = []
    pipeline.queue.submit(request, heard.extend, deadline=None, now=0)
    pipeline.turn()
    [key] = pipeline.counts
    pipeline.queue.accept(key, [token], [-0.5], 0)
    pipeline.turn()
    if reason is None:
        assert kinds(heard) == [Admitted, Token]
    else:
        assert heard == [Admitted(), Ended(0, reason)]


def test_rounding_never_makes_a_probability_of_more_than_one() -> None:
    pipeline = Counting()
    group = pipeline.submit(9)
    pipeline.turn()
    [key] = pipeline.counts
    pipeline.queue.accept(key, [20], [1e-7], 0)
    pipeline.turn()
    token = pipeline.heard[group][-1]
    assert isinstance(token, Token)
    assert token.score is not None
    assert math.exp(token.score.logprob) <= 1


def test_only_running_groups_fail_with_a_step() -> None:
    pipeline = Counting()
    groups = [pipeline.submit(20) for _ in range(5)]
    pipeline.step()
    pipeline.queue.fail_running(RuntimeError("a step failed"))
    pipeline.turn()
    assert [kinds(pipeline.heard[group])[-1] for group in groups[:3]] == [Failed] * 3
    assert [pipeline.heard[group] for group in groups[3:]] == [[Admitted()]] * 2


def test_higher_priorities_come_first() -> None:
    pipeline = Counting()
    blockers = [pipeline.submit(40) for _ in range(SLOTS)]
    pipeline.step()
    low = pipeline.submit(2, priority=Priority.LOW)
    high = pipeline.submit(2, priority=Priority.HIGH)
    pipeline.queue.cancel(blockers[0])
    pipeline.step()
    assert kinds(pipeline.heard[high])[0] is Admitted
    assert pipeline.heard[low] == []


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.lists(st.integers(0, 9), min_size=1, max_size=5)),
        st.tuples(
            st.sampled_from(["cancel", "pause", "resume", "finish"]),
            st.lists(st.integers(0, 20), min_size=2, max_size=2),
        ),
        st.tuples(st.just("step"), st.just([])),
    ),
    max_size=60,
)


@given(actions=ACTIONS)
def test_whatever_callers_do_every_answer_is_whole(
    actions: list[tuple[str, list[int]]],
) -> None:
    pipeline = Counting(queue_limit=4)
    groups: list[tuple[GroupState, list[int]]] = []
    touched: set[int] = set()
    for action, numbers in actions:
        if action == "submit":
            with contextlib.suppress(QueueFull):
                groups.append((pipeline.submit(*numbers), numbers))
        elif action == "step":
            pipeline.step()
        elif groups:
            place = numbers[0] % len(groups)
            group = groups[place][0]
            if action == "cancel":
                pipeline.queue.cancel(group)
                touched.add(place)
            elif action == "finish":
                pipeline.queue.finish(group, numbers[1] % 5, pipeline.now)
                touched.add(place)
            elif action == "pause":
                pipeline.queue.pause(group)
            else:
                pipeline.queue.resume(group, pipeline.now)
    for group, _ in groups:
        pipeline.queue.resume(group, pipeline.now)
    for _ in range(200):
        pipeline.step()
    status = pipeline.queue.status(pipeline.now)
    assert (status.running, status.waiting, pipeline.counts) == (0, 0, {})
    for place, (group, limits) in enumerate(groups):
        if place in touched:
            continue
        events = pipeline.heard[group]
        assert events[0] == Admitted()
        for index, limit in enumerate(limits):
            assert pipeline.tokens(group, index) == list(range(10, 10 + limit))
            own = [e for e in events if isinstance(e, Token | Ended) and e.index == index]
            assert own[-1] == Ended(index, EndReason.LENGTH)
