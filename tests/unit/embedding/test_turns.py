"""Whose inputs come next: nothing lost, nothing twice, nobody starved, everybody a fair share."""

from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.embedding.engine import Tokens
from services.embedding.requests import Priority
from services.embedding.turns import PATIENCE, Turns, Work

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=30)
LONGEST = 40


def work(sizes: list[int], principal: str = "", priority: Priority = Priority.NORMAL) -> Work:
    inputs = [Tokens([1] * size) for size in sizes]
    return Work(inputs, principal=principal, priority=priority)


def sizes_of(batch: list[tuple[Work, int]]) -> list[int]:
    return [len(taken.inputs[position].ids) for taken, position in batch]


class TurnsMachine(RuleBasedStateMachine):
    """Calls come, are taken from and leave, in any order."""

    @initialize()
    def begin(self) -> None:
        self.turns: Turns[Work] = Turns()
        self.works: list[Work] = []
        self.taken: dict[Work, list[int]] = defaultdict(list)
        self.left: set[Work] = set()
        self.passed: Counter[int] = Counter()

    @rule(
        sizes=st.lists(st.integers(1, 40), max_size=30),
        principal=st.sampled_from("abc"),
        priority=st.sampled_from(list(Priority)),
    )
    def add(self, sizes: list[int], principal: str, priority: Priority) -> None:
        one = work(sizes, principal, priority)
        self.works.append(one)
        self.turns.add(one)

    @precondition(lambda self: self.works)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.works))
        self.turns.remove(one)
        self.left.add(one)

    @rule(budget=st.integers(1, 200), most=st.integers(0, 12))
    def take(self, budget: int, most: int) -> None:
        waited = bool(self.turns)
        batch = self.turns.take(budget, most)
        assert bool(batch) == waited
        sizes = sizes_of(batch)
        assert sum(sizes) <= budget or len(batch) == 1
        assert not most or len(batch) <= most
        served = [taken.priority.value for taken, _ in batch]
        levels = served[1:] if served and self.passed[served[0]] >= PATIENCE else served
        assert levels == sorted(levels, reverse=True)
        waiting = {w.priority.value for w in self.works if w.waiting}
        if levels:
            assert max(waiting, default=0) <= levels[-1], "who is higher was passed over"
        for level in served:
            self.passed[level] = 0
        for level in waiting - set(served):
            self.passed[level] += 1
            assert self.passed[level] <= PATIENCE + len(Priority), "it starves"
        for one, position in batch:
            assert one not in self.left
            assert position not in self.taken[one], "taken twice"
            self.taken[one].append(position)

    @invariant()
    def nothing_is_lost(self) -> None:
        waiting = 0
        for one in self.works:
            if one in self.left:
                assert not one.waiting
                continue
            assert sorted([*one.waiting, *self.taken[one]]) == list(range(len(one.inputs)))
            waiting += sum(len(one.inputs[position].ids) for position in one.waiting)
        assert self.turns.tokens == waiting
        assert bool(self.turns) == bool(waiting)


TestTurns = TurnsMachine.TestCase
TestTurns.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(st.tuples(st.sampled_from("abcd"), SIZES), min_size=2, max_size=12),
    budget=st.integers(1, 300),
)
def test_principals_and_their_calls_share_evenly(
    calls: list[tuple[str, list[int]]], budget: int
) -> None:
    turns: Turns[Work] = Turns()
    works = [work(sizes, principal) for principal, sizes in calls]
    for one in works:
        turns.add(one)
    by_call: Counter[Work] = Counter(dict.fromkeys(works, 0))
    by_principal: Counter[str] = Counter({one.principal: 0 for one in works})
    while turns:
        for (one, _), size in zip(batch := turns.take(budget), sizes_of(batch), strict=True):
            by_call[one] += size
            by_principal[one.principal] += size
        # Of those that still have something to ask for, none is ahead by more than an input.
        waiting = [one for one in works if one.waiting]
        shares = [by_principal[one.principal] for one in waiting]
        behind = [share for share in shares if share == min(shares)]
        assert not behind or max(shares) - behind[0] <= LONGEST
        for principal in {one.principal for one in waiting}:
            counts = [by_call[one] for one in waiting if one.principal == principal]
            assert max(counts) - min(counts) <= LONGEST


@settings(max_examples=40, deadline=None)
@given(
    large=st.integers(1, 5),
    rounds=st.integers(0, 30),
    same=st.booleans(),
    budget=st.integers(LONGEST, 400),
    data=st.data(),
)
def test_a_small_call_waits_for_no_large_one(
    large: int, rounds: int, same: bool, budget: int, data: st.DataObject
) -> None:
    turns: Turns[Work] = Turns()
    sizes = st.lists(st.integers(1, LONGEST), min_size=400, max_size=400)
    for index in range(large):
        turns.add(work(data.draw(sizes), "busy" if same else str(index)))
    for _ in range(rounds):
        turns.take(budget)
    small = work([5], "busy" if same else "another")
    turns.add(small)
    before = 0
    while small.waiting:
        batch = turns.take(budget)
        before += sum(size for (one, _), size in zip(batch, sizes_of(batch), strict=True))
    assert before <= 2 * LONGEST * large + budget


@settings(max_examples=30, deadline=None)
@given(same=st.booleans(), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=10))
def test_newcomers_starve_nobody(same: bool, sizes: list[int]) -> None:
    turns: Turns[Work] = Turns()
    old = work(sizes, "old")
    turns.add(old)
    for number in range(400):
        # As much comes as can be taken: there is always somebody who hasn't had a turn.
        for one in range(5):
            turns.add(work([20], "old" if same else f"{number}-{one}"))
        turns.take(100)
        if not old.waiting:
            return
    raise AssertionError(f"{len(old.waiting)} inputs still wait")


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    urgent=st.sampled_from([Priority.NORMAL, Priority.HIGH]),
    budget=st.integers(40, 120),
    most=st.integers(0, 3),
)
def test_urgent_calls_go_first_and_starve_nobody(
    sizes: list[int], urgent: Priority, budget: int, most: int
) -> None:
    turns: Turns[Work] = Turns()
    batch = work(sizes, "batch", Priority.LOW)
    turns.add(batch)
    count = 0
    while batch.waiting:
        # More comes than can be taken: a batch never has room left over.
        for number in range(8):
            turns.add(work([40], f"{count}-{number}", urgent))
        left = len(batch.waiting)
        taken = turns.take(budget, most)
        count += 1
        if len(batch.waiting) < left:
            assert len(batch.waiting) == left - 1, "the rest is for who is urgent"
            assert taken[0][0] is batch
        assert count <= (PATIENCE + 1) * len(sizes)
    assert count == (PATIENCE + 1) * len(sizes)


def test_calls_that_left_are_forgotten() -> None:
    turns: Turns[Work] = Turns()
    turns.add(stays := work([10] * 5, "a"))
    for _ in range(100):
        turns.add(one := work([1] * 100, "b"))
        turns.take(25)
        turns.remove(one)
        turns.remove(one)
        if not stays.waiting:
            turns.add(stays := work([10] * 5, "a"))
    assert {one for one, _ in turns.take(10_000)} == {stays}
    assert not turns
    assert turns.take(1) == []
