"""Whose inputs are computed next. Knows tokens; no clock, no threads, no engine.

Higher priorities come first, but for the input of a lower one that was passed by in many batches:
so nothing waits for ever, and most of what is computed is urgent. Within a priority, principals
share tokens evenly; and so do the calls of a principal: a small call never waits for a large one to
end.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from itertools import count
from typing import Generic, TypeVar

from services.embedding.engine import Tokens
from services.embedding.requests import Priority

PATIENCE = 16
"""Batches in which a priority is passed by before an input of it is the first of one."""

E = TypeVar("E")


class Work:
    """The inputs of one call."""

    def __init__(
        self, inputs: Sequence[Tokens], *, principal: str = "", priority: Priority = Priority.NORMAL
    ) -> None:
        self.inputs = inputs
        self.principal = principal
        self.priority = priority
        sizes = [len(tokens.ids) for tokens in inputs]
        self.waiting = sorted(range(len(inputs)), key=lambda position: sizes[position])
        """Positions that were not taken yet. The longest is the next."""
        self.tokens = sum(sizes)
        """Of what waits."""

    @property
    def next_size(self) -> int:
        """Tokens of the input that is taken next."""
        return len(self.inputs[self.waiting[-1]].ids)


W = TypeVar("W", bound=Work)


class Turns(Generic[W]):
    """What waits, and the order in which it is taken."""

    def __init__(self) -> None:
        levels = sorted(Priority, key=lambda priority: priority.value, reverse=True)
        self._levels = {priority: _Level[W]() for priority in levels}
        self.tokens = 0
        """That wait."""

    def __bool__(self) -> bool:
        return any(level.shares for level in self._levels.values())

    def add(self, work: W) -> None:
        """Puts a call's inputs in line."""
        if work.waiting:
            self._levels[work.priority].add(work)
            self.tokens += work.tokens

    def remove(self, work: W) -> None:
        """Takes out what waits of a call."""
        if work.waiting:
            self._levels[work.priority].remove(work)
            self.tokens -= work.tokens
            work.waiting, work.tokens = [], 0

    def take(self, budget: int, most: int = 0) -> list[tuple[W, int]]:
        """Takes the next batch: calls, each with the position of an input.

        Its tokens are at most the budget, unless its only input is larger; it has at most `most`
        inputs where that is not 0.
        """
        taken: list[tuple[W, int]] = []
        levels = self._levels.values()
        passed = next((one for one in levels if one.shares and one.passed >= PATIENCE), None)
        if passed is not None:
            budget -= self._take(passed, taken)
        for level in levels:
            while (work := level.first()) is not None:
                # What doesn't fit is the first of the next batch: nothing small overtakes it.
                if taken and (work.next_size > budget or len(taken) == most):
                    self._age(taken)
                    return taken
                budget -= self._take(level, taken)
        return taken

    def _take(self, level: _Level[W], taken: list[tuple[W, int]]) -> int:
        work = level.first()
        if work is None:
            return 0
        size = work.next_size
        self.tokens -= size
        taken.append((work, level.take(work, size)))
        level.passed = 0
        return size

    def _age(self, taken: Sequence[tuple[W, int]]) -> None:
        """Notes whom a batch that is full has passed by."""
        served = {work.priority for work, _ in taken}
        for priority, level in self._levels.items():
            if priority not in served and level.shares:
                level.passed += 1


class _Fair(Generic[E]):
    """Entries that take turns: who had the fewest tokens comes first.

    Each entry has a clock that runs by the tokens that were taken from it, and begins at the time
    of all, which runs by the even share of one entry. So who comes late has neither credit nor
    debt, and no stream of newcomers keeps who is ahead waiting for ever.
    """

    def __init__(self) -> None:
        self._line: list[tuple[float, int, E]] = []
        self._order = count()
        self._present: set[E] = set()
        self._now = 0.0

    def __bool__(self) -> bool:
        return bool(self._present)

    def add(self, entry: E) -> None:
        self._present.add(entry)
        heappush(self._line, (self._now, next(self._order), entry))

    def remove(self, entry: E) -> None:
        self._present.discard(entry)  # and from the line once it is the first there
        if not self._present:
            self._line.clear()

    def first(self) -> E | None:
        line = self._line
        while line and line[0][2] not in self._present:
            heappop(line)
        return line[0][2] if line else None

    def charge(self, tokens: int) -> None:
        """Takes in that tokens were taken from the first."""
        clock, order, entry = self._line[0]
        self._now += tokens / len(self._present)
        heapreplace(self._line, (clock + tokens, order, entry))


class _Level(Generic[W]):
    """What waits in one priority: by principal, the calls of each."""

    def __init__(self) -> None:
        self.shares: dict[str, _Fair[W]] = {}
        self.passed = 0
        """Batches since it had a part in one."""
        self._principals: _Fair[_Fair[W]] = _Fair()

    def add(self, work: W) -> None:
        share = self.shares.get(work.principal)
        if share is None:
            share = self.shares[work.principal] = _Fair()
            self._principals.add(share)
        share.add(work)

    def remove(self, work: W) -> None:
        share = self.shares[work.principal]
        share.remove(work)
        if not share:
            del self.shares[work.principal]
            self._principals.remove(share)

    def first(self) -> W | None:
        share = self._principals.first()
        return None if share is None else share.first()

    def take(self, work: W, size: int) -> int:
        """Takes the next input of the first call."""
        self._principals.charge(size)
        self.shares[work.principal].charge(size)
        position = work.waiting.pop()
        work.tokens -= size
        if not work.waiting:
            self.remove(work)
        return position
