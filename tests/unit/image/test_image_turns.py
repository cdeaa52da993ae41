"""Whose images come next: nothing lost, nobody starved, everybody a fair share."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.image.requests import Priority
from services.image.turns import PATIENCE, Turns

COSTS = st.sampled_from([1.0, 2.0, 5.0])


@dataclass(eq=False)
class Waiting:
    """A job that only waits."""

    principal: str
    remaining: int
    cost: float = 1.0
    priority: Priority = Priority.NORMAL


def take(turns: Turns[Waiting]) -> Waiting | None:
    """Takes the next image as the service does."""
    work = turns.next()
    if work is not None:
        work.remaining -= 1
        if not work.remaining:
            turns.remove(work)
    return work


class TurnsMachine(RuleBasedStateMachine):
    """Jobs come, are taken from and leave, in any order."""

    @initialize()
    def begin(self) -> None:
        self.turns: Turns[Waiting] = Turns()
        self.line: list[Waiting] = []
        self.passed: Counter[int] = Counter()

    @rule(
        principal=st.sampled_from("abc"),
        remaining=st.integers(1, 6),
        cost=COSTS,
        priority=st.sampled_from(list(Priority)),
    )
    def add(self, principal: str, remaining: int, cost: float, priority: Priority) -> None:
        work = Waiting(principal, remaining, cost, priority)
        self.line.append(work)
        self.turns.add(work)

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        work = data.draw(st.sampled_from(self.line))
        self.turns.remove(work)
        self.turns.remove(work)  # twice is once
        self.line.remove(work)

    @rule()
    def take(self) -> None:
        work = take(self.turns)
        assert (work is None) == (not self.line)
        if work is not None:
            highest = max(each.priority.value for each in self.line)
            level = work.priority.value
            assert level == highest or self.passed[level] >= PATIENCE
            self.note(work)
            if not work.remaining:
                self.line.remove(work)

    def note(self, taken: Waiting) -> None:
        """Remembers which priorities were passed by."""
        self.passed[taken.priority.value] = 0
        for level in {each.priority.value for each in self.line}:
            self.passed[level] += level < taken.priority.value

    @precondition(lambda self: self.line)
    @rule(data=st.data())
    def only_some_are_acceptable(self, data: st.DataObject) -> None:
        wanted = data.draw(st.sampled_from(self.line))
        assert self.turns.next(lambda work: work is wanted) is wanted
        self.note(wanted)
        assert self.turns.next(lambda _: False) is None

    @invariant()
    def the_order_tells_of_all(self) -> None:
        order = list(self.turns.order())
        assert Counter(map(id, order)) == Counter(map(id, self.line))
        levels = [work.priority.value for work in order]
        assert levels == sorted(levels, reverse=True)


TestTurns = TurnsMachine.TestCase


@given(costs=st.lists(COSTS, min_size=2, max_size=5), rounds=st.integers(1, 40))
def test_principals_share_the_work_evenly(costs: list[float], rounds: int) -> None:
    turns: Turns[Waiting] = Turns()
    for number, cost in enumerate(costs):
        for _ in range(1 + number):  # more jobs bring no more
            turns.add(Waiting(str(number), 10_000, cost))
    done: Counter[str] = Counter()
    for _ in range(rounds * len(costs)):
        work = take(turns)
        assert work is not None
        done[work.principal] += int(work.cost)
        shares = [done[str(number)] for number in range(len(costs))]
        assert max(shares) - min(shares) <= 2 * max(costs)


@given(ahead=st.integers(1, 30))
def test_who_comes_late_has_neither_credit_nor_debt(ahead: int) -> None:
    turns: Turns[Waiting] = Turns()
    first = Waiting("a", 1000)
    turns.add(first)
    for _ in range(ahead):
        assert take(turns) is first
    late = Waiting("b", 1000)
    turns.add(late)
    next_ten = Counter(work.principal for _ in range(10) if (work := take(turns)))
    assert next_ten == {"a": 5, "b": 5}


def test_a_small_job_overtakes_a_large_one() -> None:
    turns: Turns[Waiting] = Turns()
    large, small = Waiting("a", 100), Waiting("a", 2)
    turns.add(large)
    take(turns)
    turns.add(small)
    taken = [take(turns) for _ in range(6)]
    assert small.remaining == 0
    assert taken.count(large) == 4
    assert large.remaining == 95


@given(sizes=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), max_size=6))
def test_the_order_is_that_in_which_whole_jobs_would_come(sizes: list[tuple[str, int]]) -> None:
    turns: Turns[Waiting] = Turns()
    works = [Waiting(principal, size) for principal, size in sizes]
    for work in works:
        turns.add(work)
    first = next(iter(turns.order()), None)
    assert first is (take(turns) if works else None)
    mine = [work for work in turns.order() if work.principal == "a"]
    waits = [work for work in works if work.principal == "a" and work.remaining]
    assert sorted(map(id, mine)) == sorted(map(id, waits))


@given(
    images=st.integers(1, 5),
    urgent=st.sampled_from([Priority.NORMAL, Priority.HIGH]),
    rivals=st.integers(1, 3),
)
def test_urgent_jobs_go_first_and_starve_nobody(images: int, urgent: Priority, rivals: int) -> None:
    turns: Turns[Waiting] = Turns()
    batch = Waiting("batch", images, priority=Priority.LOW)
    turns.add(batch)
    for number in range(rivals):
        turns.add(Waiting(f"p{number}", 1000, priority=urgent))
    order: list[bool] = []
    while batch.remaining:
        order.append(take(turns) is batch)
        assert len(order) <= (PATIENCE + 1) * images
    assert [place for place, its in enumerate(order, start=1) if its] == [
        (PATIENCE + 1) * image for image in range(1, images + 1)
    ]
