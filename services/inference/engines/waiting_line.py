"""The order in which waiting groups are served."""

from collections import OrderedDict, deque
from collections.abc import Iterator

from services.inference.engine import Priority
from services.inference.engines.sequences import GroupState

PATIENCE = 16
"""Groups of higher priorities that are admitted before one that waits gets their priority."""


class WaitingLine:
    """Groups by priority; within one, principals in turn; within a principal, first come first.

    Whoever is the next of its priority while many of a higher one are taken gets that priority, and
    goes before the others of it: so nothing waits for ever, and most of what is taken is urgent.

    The head of a priority stays the head until it is taken, removed or paused: so a large group can
    wait for its rows without being overtaken for ever. Paused groups keep their places, and let
    others by.
    """

    def __init__(self) -> None:
        self._lines: dict[Priority, OrderedDict[str, deque[GroupState]]] = {
            priority: OrderedDict()
            for priority in sorted(Priority, key=lambda priority: priority.value, reverse=True)
        }

    def __iter__(self) -> Iterator[GroupState]:
        for principals in self._lines.values():
            for groups in principals.values():
                yield from groups

    def __bool__(self) -> bool:
        return any(self._lines.values())

    def push(self, group: GroupState) -> None:
        """Puts a group behind the others of its principal."""
        principals = self._lines[group.priority]
        principals.setdefault(group.request.principal, deque()).append(group)

    def head(self, priority: Priority) -> GroupState | None:
        """The group of a priority that is to be served next."""
        waiting = (group for groups in self._lines[priority].values() for group in groups)
        return next((group for group in waiting if not group.paused), None)

    def take(self, priority: Priority) -> GroupState:
        """Takes the head out; its principal's next group comes after the other principals'."""
        group = self.head(priority)
        if group is None:
            raise IndexError("take from an empty line")
        self._lines[priority].move_to_end(group.request.principal)
        self.remove(group)
        for lower in self._lines:
            if lower.value < priority.value and (passed := self.head(lower)) is not None:
                self._age(passed, priority)
        return group

    def remove(self, group: GroupState) -> None:
        """Takes a group out, wherever it stands."""
        _take_out(group, self._lines[group.priority])

    def _age(self, group: GroupState, priority: Priority) -> None:
        before, after = self._lines[group.priority], self._lines[priority]
        if grown_old(group, priority):
            _take_out(group, before)
            after.setdefault(group.request.principal, deque()).appendleft(group)
            after.move_to_end(group.request.principal, last=False)


def grown_old(group: GroupState, priority: Priority) -> bool:
    """Notes that a group was passed by one of a higher priority. After `PATIENCE` of them it gets
    that priority: tells whether it did."""
    group.passed += 1
    if group.passed < PATIENCE:
        return False
    group.passed = 0
    group.priority = priority
    return True


def _take_out(group: GroupState, principals: OrderedDict[str, deque[GroupState]]) -> None:
    groups = principals[group.request.principal]
    groups.remove(group)
    if not groups:
        del principals[group.request.principal]
