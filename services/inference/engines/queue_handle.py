"""The handle of a group in an `AdmissionQueue`: of engines whose model runs in another process."""

import time
from collections.abc import Callable
from typing import Protocol

from services.inference.engines.admission_queue import AdmissionQueue
from services.inference.engines.sequences import GroupState


class QueueOwner(Protocol):
    """The engine that a queue belongs to."""

    def change(self, command: Callable[[AdmissionQueue], None]) -> None:
        """Applies a change to the queue, and has it take effect."""
        ...

    def hold(self, group: GroupState, *, held: bool) -> None:
        """Keeps a group's tokens back, or gives them out."""
        ...


class QueuedGroup:
    """The handle that `submit` returns."""

    def __init__(self, group: GroupState, engine: QueueOwner) -> None:
        self._group = group
        self._engine = engine

    def finish(self, index: int) -> None:
        """Ends one sequence."""
        if not self._group.over:
            self._engine.change(lambda queue: queue.finish(self._group, index, time.monotonic()))

    def cancel(self) -> None:
        """Ends the group."""
        self._group.muted = True
        if not self._group.over:
            self._engine.change(lambda queue: queue.cancel(self._group))

    def pause(self) -> None:
        """Keeps its tokens back."""
        if not self._group.over:
            self._engine.hold(self._group, held=True)

    def resume(self) -> None:
        """Gives them out again."""
        if not self._group.over:
            self._engine.hold(self._group, held=False)
