"""Between an engine and its callers: the handle of a group and the delivery of its events."""

import logging
import time
from collections.abc import Callable, Sequence

from services.inference.engine import EngineEvent
from services.inference.engines.scheduler import Scheduler
from services.inference.engines.sequences import GroupState

_log = logging.getLogger(__name__)

Command = Callable[[Scheduler], None]


class ScheduledGroup:
    """The handle that `submit` returns: each call becomes a command to the engine's scheduler."""

    def __init__(self, group: GroupState, apply: Callable[[Command], None]) -> None:
        self._group = group
        self._apply = apply

    def finish(self, index: int) -> None:
        """Ends one sequence."""
        if not self._group.over:
            self._apply(lambda scheduler: scheduler.finish(self._group, index, time.monotonic()))

    def cancel(self) -> None:
        """Ends the group."""
        self._group.muted = True  # also for events that are on their way already
        if not self._group.over:
            asked = time.monotonic()
            self._apply(lambda scheduler: scheduler.cancel(self._group, asked))

    def pause(self) -> None:
        """Leaves it out of the next steps."""
        if not self._group.over:
            self._apply(lambda scheduler: scheduler.pause(self._group))

    def resume(self) -> None:
        """Takes it in again."""
        if not self._group.over:
            self._apply(lambda scheduler: scheduler.resume(self._group))


Handover = Sequence[tuple[GroupState, list[EngineEvent]]]


def deliver(handover: Handover) -> list[GroupState]:
    """Gives each group its events of one step; returns the groups whose sink broke its promise."""
    broken: list[GroupState] = []
    for group, events in handover:
        if group.muted:
            continue
        try:
            group.sink(events)
        except Exception:
            _log.exception("a sink raised; its group is cancelled")
            group.muted = True
            broken.append(group)
    return broken
