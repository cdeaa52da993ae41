"""Whose images are drawn next. Knows work; no clock, no threads, no engine.

Higher priorities come first, but for an image of a lower one that was passed by for many of theirs:
so nothing waits for ever. Within a priority, principals share the work evenly; and so do the
jobs of a principal: a small job never waits for a large one to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, Protocol, TypeVar

from services.image.requests import Priority


class Work(Protocol):
    """A job, as far as it stands in line."""

    @property
    def principal(self) -> str:
        """Whose it is."""
        ...

    @property
    def priority(self) -> Priority:
        """Its priority."""
        ...

    @property
    def cost(self) -> float:
        """Work of one of its images, in any unit that is the same for all jobs."""
        ...

    @property
    def remaining(self) -> int:
        """Its images that wait, now or later."""
        ...


PATIENCE = 16
"""Images of higher priorities that are taken before one of a lower one comes first."""

E = TypeVar("E")
W = TypeVar("W", bound=Work)


class Turns(Generic[W]):
    """What waits, and the order in which it is taken."""

    def __init__(self) -> None:
        levels = sorted(Priority, key=lambda priority: priority.value, reverse=True)
        self._levels = {priority: _Level[W]() for priority in levels}

    def add(self, work: W) -> None:
        """Puts a job in line."""
        self._levels[work.priority].add(work)

    def remove(self, work: W) -> None:
        """Takes a job out of the line, if it is there."""
        self._levels[work.priority].remove(work)

    def next(self, accept: Callable[[W], bool] = lambda _: True) -> W | None:
        """The first job in line that is acceptable, charged for one of its images."""
        levels = list(self._levels.values())
        # Stable: of those that were passed by for long, the highest comes first too.
        for level in sorted(levels, key=lambda one: one.passed < PATIENCE):
            work = level.take(accept)
            if work is not None:
                level.passed = 0
                for lower in levels[levels.index(level) + 1 :]:
                    lower.passed += bool(lower)
                return work
        return None

    def order(self) -> Iterator[W]:
        """All jobs as their turns would come, if each were drawn whole."""
        for level in self._levels.values():
            yield from level.order()


class _Fair(Generic[E]):
    """Entries that take turns: who had the least work done comes first.

    Each entry has a clock that runs by the work that was done for it, and begins at the time of
    all, which runs by the even share of one entry. So who comes late has neither credit nor debt,
    and no stream of newcomers keeps who is ahead waiting for ever.
    """

    def __init__(self) -> None:
        self._clocks: dict[E, tuple[float, int]] = {}
        self._order = count()
        self._now = 0.0

    def __bool__(self) -> bool:
        return bool(self._clocks)

    def __contains__(self, entry: E) -> bool:
        return entry in self._clocks

    def add(self, entry: E) -> None:
        self._clocks.setdefault(entry, (self._now, next(self._order)))

    def remove(self, entry: E) -> None:
        self._clocks.pop(entry, None)

    def in_order(self) -> list[E]:
        return sorted(self._clocks, key=lambda entry: self._clocks[entry])

    def clocks(self) -> dict[E, tuple[float, int]]:
        return dict(self._clocks)

    def charge(self, entry: E, work: float) -> None:
        clock, order = self._clocks[entry]
        self._now += work / len(self._clocks)
        self._clocks[entry] = (clock + work, order)


class _Level(Generic[W]):
    """What waits in one priority: by principal, the jobs of each."""

    def __init__(self) -> None:
        self._shares: dict[str, _Fair[W]] = {}
        self._principals: _Fair[str] = _Fair()
        self.passed = 0
        """Images of higher priorities that were taken since one of its own."""

    def __bool__(self) -> bool:
        return bool(self._shares)

    def add(self, work: W) -> None:
        share = self._shares.get(work.principal)
        if share is None:
            share = self._shares[work.principal] = _Fair()
            self._principals.add(work.principal)
        share.add(work)

    def remove(self, work: W) -> None:
        share = self._shares.get(work.principal)
        if share is None or work not in share:
            return
        share.remove(work)
        if not share:
            del self._shares[work.principal]
            self._principals.remove(work.principal)

    def take(self, accept: Callable[[W], bool]) -> W | None:
        for principal in self._principals.in_order():
            share = self._shares[principal]
            for work in share.in_order():
                if accept(work):
                    self._principals.charge(principal, work.cost)
                    share.charge(work, work.cost)
                    return work
        return None

    def order(self) -> Iterator[W]:
        clocks = self._principals.clocks()
        lines = {principal: iter(self._shares[principal].in_order()) for principal in clocks}
        while clocks:
            principal = min(clocks, key=lambda name: clocks[name])
            work = next(lines[principal], None)
            if work is None:
                del clocks[principal]
                continue
            clock, number = clocks[principal]
            clocks[principal] = (clock + work.cost * work.remaining, number)
            yield work
