"""Urgent work goes first, and what waits behind it moves all the same."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.engine import Admitted, Ended, Priority
from services.inference.engines.sequences import GroupState
from services.inference.engines.waiting_line import PATIENCE, WaitingLine
from tests.unit.inference.engines.scheduler_bench import Bench, request

LOW, NORMAL, HIGH = Priority.LOW, Priority.NORMAL, Priority.HIGH


def ended(bench: Bench, group: GroupState) -> bool:
    return any(isinstance(event, Ended) for event in bench.heard[group])


class Flood:
    """Keeps a bench full of urgent work, whatever ends."""

    def __init__(self, bench: Bench, kinds: list[tuple[Priority, int, int]]) -> None:
        self.bench = bench
        self.kinds = kinds
        self.groups: list[GroupState] = []

    def top_up(self, most: int) -> None:
        waiting = [group for group in self.groups if not group.over]
        while len(waiting) < most:
            priority, prompt, output = self.kinds[len(self.groups) % len(self.kinds)]
            principal = f"p{len(self.groups) % 3}"
            group = self.bench.submit(
                request((prompt, output), principal=principal, priority=priority)
            )
            self.groups.append(group)
            waiting.append(group)

    def admitted(self) -> int:
        return sum(
            any(isinstance(event, Admitted) for event in self.bench.heard[group])
            for group in self.groups
        )


@settings(max_examples=40, deadline=None)
@given(
    slots=st.integers(1, 4),
    low=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 12)), min_size=1, max_size=3),
    kinds=st.lists(
        st.tuples(st.sampled_from([NORMAL, HIGH]), st.integers(1, 20), st.integers(1, 8)),
        min_size=1,
        max_size=4,
    ),
    lead=st.integers(0, 6),
)
def test_a_batch_ends_however_much_urgent_work_keeps_coming(
    slots: int, low: list[tuple[int, int]], kinds: list[tuple[Priority, int, int]], lead: int
) -> None:
    bench = Bench(slots=slots, queue_limit=32)
    flood = Flood(bench, kinds)
    flood.top_up(slots)
    for _ in range(lead):
        bench.step()
        flood.top_up(slots + 4)
    batch = [bench.submit(request(size, principal="batch", priority=LOW)) for size in low]
    before = flood.admitted()
    for _ in range(20_000):
        if all(ended(bench, group) for group in batch):
            break
        bench.step()
        flood.top_up(slots + 4)
    assert all(ended(bench, group) for group in batch), "it starves"
    # Each can be passed by so many as LOW, as many as NORMAL, and by what runs beside it.
    passed = flood.admitted() - before
    tokens = sum(output for _, output in low)
    assert passed <= len(batch) * (2 * PATIENCE + slots) + slots * (tokens + 40)


@pytest.mark.parametrize("urgent", [NORMAL, HIGH])
def test_urgent_work_goes_first_most_of_the_time(urgent: Priority) -> None:
    bench = Bench(slots=1, queue_limit=64)
    batch = [bench.submit(request((2, 1), principal="batch", priority=LOW)) for _ in range(3)]
    order: list[str] = []
    seen: set[GroupState] = set()
    flood = Flood(bench, [(urgent, 2, 1)])
    flood.top_up(4)
    while not all(ended(bench, group) for group in batch):
        bench.step()
        for group, events in bench.heard.items():
            if group not in seen and any(isinstance(event, Admitted) for event in events):
                seen.add(group)
                order.append("batch" if group in batch else "urgent")
        flood.top_up(4)
    assert order[:PATIENCE] == ["urgent"] * PATIENCE
    assert order.count("batch") == 3
    places = [place for place, what in enumerate(order) if what == "batch"]
    assert all(b - a == PATIENCE for a, b in itertools.pairwise(places))


def test_what_lost_its_row_comes_back() -> None:
    """A batch that runs gives its row to urgent work, and gets it back for good in the end."""
    bench = Bench(slots=1, queue_limit=64)
    batch = bench.submit(request((2, 40), principal="batch", priority=LOW))
    for _ in range(3):
        bench.step()
    flood = Flood(bench, [(NORMAL, 2, 4)])
    flood.top_up(3)
    for _ in range(2000):
        bench.step()
        flood.top_up(3)
        if ended(bench, batch):
            break
    assert ended(bench, batch)
    assert flood.admitted() <= PATIENCE + 2


def test_a_group_that_was_passed_goes_before_the_others_of_its_new_priority() -> None:
    line = WaitingLine()

    def group(priority: Priority, principal: str) -> GroupState:
        made = GroupState(request((1, 1), priority=priority, principal=principal), print, None)
        line.push(made)
        return made

    low, lower = group(LOW, "a"), group(LOW, "a")
    for _ in range(PATIENCE):
        group(NORMAL, "b")
        line.take(NORMAL)
    group(NORMAL, "a")
    group(NORMAL, "b")
    assert low.priority is NORMAL
    assert lower.priority is LOW
    assert line.head(NORMAL) is low
    assert line.head(LOW) is lower
    line.remove(low)
    assert low not in line
    paused = lower
    paused.paused = True
    for _ in range(2 * PATIENCE):
        group(HIGH, "b")
        line.take(HIGH)
    assert paused.priority is LOW, "who wants nothing is not passed"
