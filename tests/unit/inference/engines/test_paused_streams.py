"""Streams whose readers are slow: who may take their rows, and that everybody comes to an end."""

import random
from collections import Counter

import pytest

from services.inference.engine import Priority
from services.inference.engines.sequences import GroupState, SequenceState, Stage
from tests.unit.inference.engines.scheduler_bench import Bench, request
from tests.unit.inference.engines.symbolic_memory import continuation

LOW, NORMAL, HIGH = Priority.LOW, Priority.NORMAL, Priority.HIGH


def stage(group: GroupState, index: int = 0) -> Stage:
    return group.sequences[index].stage


def one_row(kv_tokens: int = 0) -> Bench:
    return Bench(slots=1 if kv_tokens == 0 else 4, queue_limit=20, kv_tokens=kv_tokens)


def check_outputs(bench: Bench) -> None:
    for group in bench.heard:
        assert group.over
        for index, sequence in enumerate(group.sequences):
            assert bench.tokens(group, index) == continuation(
                sequence.request.prompt, sequence.limit
            )


@pytest.mark.parametrize("kv_tokens", [0, 65])
@pytest.mark.parametrize(
    ("paused", "waiting", "taken"),
    [
        (NORMAL, NORMAL, True),
        (NORMAL, HIGH, True),
        (HIGH, HIGH, True),
        (LOW, LOW, True),
        (NORMAL, LOW, False),
        (HIGH, NORMAL, False),
    ],
)
def test_who_waits_takes_the_row_of_a_paused_stream_that_does_not_go_before_it(
    kv_tokens: int, paused: Priority, waiting: Priority, taken: bool
) -> None:
    bench = one_row(kv_tokens)
    slow = bench.submit(request((20, 12), priority=paused))
    for _ in range(4):
        bench.step()
    bench.scheduler.pause(slow)
    quick = bench.submit(request((20, 12), priority=waiting))
    bench.run()
    assert quick.over is taken
    assert stage(slow) is (Stage.WAITING if taken else Stage.RUNNING)
    bench.scheduler.resume(slow)
    bench.run()
    check_outputs(bench)


def test_a_paused_stream_keeps_its_row_while_there_are_others() -> None:
    bench = Bench(slots=2, queue_limit=20)
    slow = bench.submit(request((4, 20)))
    bench.step()
    bench.scheduler.pause(slow)
    quick = bench.submit(request((4, 20)))
    bench.run()
    assert quick.over
    assert stage(slow) is Stage.RUNNING


def test_a_stream_that_is_read_again_comes_before_those_that_were_admitted_after_it() -> None:
    bench = one_row()
    groups = [bench.submit(request((4, 6))) for _ in range(4)]
    bench.step()
    bench.scheduler.pause(groups[0])
    bench.step()
    assert stage(groups[1]) is Stage.RUNNING
    bench.scheduler.resume(groups[0])
    ended: list[int] = []
    while len(ended) < 4:
        bench.step()
        ended += [n for n, group in enumerate(groups) if group.over and n not in ended]
    assert ended == [1, 0, 2, 3]
    check_outputs(bench)


def test_readers_in_turn_slow_give_each_other_the_row() -> None:
    bench = one_row()
    groups = [bench.submit(request((20, 30))) for _ in range(2)]
    for turn in range(30):
        reader, other = groups[turn % 2], groups[(turn + 1) % 2]
        bench.scheduler.resume(reader)
        bench.scheduler.pause(other)
        before = len(bench.tokens(reader))
        for _ in range(4):
            bench.step()
        assert len(bench.tokens(reader)) > before or reader.over
    for group in groups:
        bench.scheduler.resume(group)
    bench.run()
    check_outputs(bench)


@pytest.mark.parametrize("kv_tokens", [0, 65])
def test_a_group_that_is_paused_before_its_admission_waits_and_then_runs(kv_tokens: int) -> None:
    """More sequences than rows: none of them may be forgotten."""
    bench = one_row(kv_tokens)
    group = bench.submit(request(*[(20, 3)] * 3))
    bench.scheduler.pause(group)
    bench.step()
    assert bench.counts() == (0, 3)
    bench.scheduler.resume(group)
    bench.run()
    check_outputs(bench)


def test_a_paused_group_in_the_line_takes_no_row_and_lets_others_by() -> None:
    bench = one_row()
    low = bench.submit(request((4, 20), priority=LOW))
    for _ in range(3):
        bench.step()
    slow = bench.submit(request((4, 3), priority=HIGH))
    bench.scheduler.pause(slow)
    behind = bench.submit(request((4, 3), priority=HIGH))
    bench.run()
    assert low.over
    assert behind.over
    assert stage(slow) is Stage.WAITING
    bench.scheduler.resume(slow)
    bench.run()
    check_outputs(bench)


class Crowd:
    """Callers that pause, resume, finish and leave at random, also while a step is computed."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.bench = Bench(
            slots=dice.choice((1, 2, 3)),
            queue_limit=20,
            kv_tokens=dice.choice((0, 65, 65, 97, 130)),
            speculative_tokens=dice.choice((0, 4)),
        )
        self.groups: list[GroupState] = []
        self.left: set[GroupState] = set()
        self.seated: dict[SequenceState, int] = {}
        """Tokens that each had when it got its row."""
        self.losses: Counter[str] = Counter()

    def act(self) -> None:
        alive = [group for group in self.groups if not group.over]
        scheduler = self.bench.scheduler
        if len(alive) < 4 and self.dice.random() < 0.5:
            sizes = (self.dice.randrange(1, 30), self.dice.randrange(0, 20))
            count = self.dice.choice((1, 1, 2, 4))
            priority = self.dice.choice(list(Priority))
            principal = self.dice.choice("ab")
            group = request(*[sizes] * count, priority=priority, principal=principal)
            self.groups.append(self.bench.submit(group))
        elif alive:
            group = self.dice.choice(alive)
            action = self.dice.choice(("pause", "pause", "resume", "resume", "cancel", "finish"))
            if action == "pause":
                scheduler.pause(group)
            elif action == "resume":
                scheduler.resume(group)
            else:
                self.left.add(group)
                if action == "cancel":
                    scheduler.cancel(group)
                else:
                    scheduler.finish(group, 0, self.bench.now)

    def step(self, *, disturbed: bool) -> None:
        sequences = [s for group in self.groups for s in group.sequences]
        ran = {s for s in sequences if s.stage is Stage.RUNNING}
        paused = {group for group in self.groups if group.paused}
        had = {s: len(s.tokens) for s in sequences}
        self.bench.step(None, self.act if disturbed else None)
        for sequence in sequences:
            if sequence.stage is Stage.RUNNING and sequence not in ran:
                self.seated[sequence] = had[sequence]
            elif sequence.stage is Stage.WAITING and sequence in ran:
                reason = "paused" if sequence.group in paused else "running"
                self.losses[reason] += 1
                if reason == "running":  # nobody runs in circles
                    assert len(sequence.tokens) > self.seated[sequence]
        if not disturbed:
            self.check_order(ran)

    def check_order(self, ran: set[SequenceState]) -> None:
        """Who was admitted earlier and waits is not overtaken."""
        for group in self.groups:
            if group.over or group.paused or group.order < 0 or not group.staged(Stage.WAITING):
                continue
            for other in self.groups:
                if other.request.priority is group.request.priority and other.order > group.order:
                    assert ran.issuperset(other.staged(Stage.RUNNING))

    def check_nobody_is_forgotten(self) -> None:
        """Only what is paused keeps an engine idle, and that only from lower priorities."""
        if self.bench.scheduler.due(self.bench.now):
            return
        holders = [
            group.request.priority.value
            for group in self.groups
            if group.paused and group.staged(Stage.RUNNING)
        ]
        for group in self.groups:
            if not group.over and not group.paused:
                assert max(holders, default=0) > group.request.priority.value

    def end(self) -> None:
        for group in self.groups:
            self.bench.scheduler.resume(group)
        steps = 0
        while self.bench.scheduler.due(self.bench.now):
            self.step(disturbed=False)
            steps += 1
            assert steps < 2000
        for group in self.groups:
            assert group.over
            for index, sequence in enumerate(group.sequences):
                tokens = self.bench.tokens(group, index)
                whole = continuation(sequence.request.prompt, sequence.limit)
                assert tokens == whole or (group in self.left and tokens == whole[: len(tokens)])


def test_whatever_readers_do_nobody_is_forgotten_and_everybody_ends() -> None:
    dice = random.Random(7)
    losses: Counter[str] = Counter()
    for _ in range(250):
        crowd = Crowd(dice)
        for _ in range(40):
            crowd.act()
            for _ in range(dice.choice((0, 1, 1, 2, 5))):
                crowd.step(disturbed=dice.random() < 0.3)
            crowd.check_nobody_is_forgotten()
        crowd.end()
        losses += crowd.losses
    # What this test is about did happen.
    assert losses["paused"] > 100
    assert losses["running"] > 100
