"""The order in which waiting groups are served."""

from collections import OrderedDict, deque
from collections.abc import Iterator

from services.inference.engine import Priority
from services.inference.engines.sequences import GroupState


class WaitingLine:
    """Groups by priority; within one, principals in turn; within a principal, first come first.

    The head stays the head until it is taken or removed, unless a group of a higher priority comes:
    so a large group can wait for its slots without being overtaken for ever.
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

    def head(self) -> GroupState | None:
        """The group to be served next."""
        for principals in self._lines.values():
            for groups in principals.values():
                return groups[0]
        return None

    def take(self) -> GroupState:
        """Takes the head out; its principal's next group comes after the other principals'."""
        group = self.head()
        if group is None:
            raise IndexError("take from an empty line")
        principals = self._lines[group.request.priority]
        principals.move_to_end(group.request.principal)
        self.remove(group)
        return group

    def remove(self, group: GroupState) -> None:
        """Takes a group out, wherever it stands."""
        principals = self._lines[group.request.priority]
        groups = principals[group.request.principal]
        groups.remove(group)
        if not groups:
            del principals[group.request.principal]
