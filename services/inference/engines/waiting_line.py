"""The order in which waiting groups are served."""

from collections import OrderedDict, deque
from collections.abc import Iterator

from services.inference.engine import Priority
from services.inference.engines.sequences import GroupState


class WaitingLine:
    """Groups by priority; within one, principals in turn; within a principal, first come first.

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
        principals = self._lines[group.request.priority]
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
        return group

    def remove(self, group: GroupState) -> None:
        """Takes a group out, wherever it stands."""
        principals = self._lines[group.request.priority]
        groups = principals[group.request.principal]
        groups.remove(group)
        if not groups:
            del principals[group.request.principal]
