"""What the service and the machine ask of the worker, and how the worker shows that it lives."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from services.training.folder import JobFolder, Order
from services.training.journal import beat, read_order
from services.training.worker.failures import Cancelled, Evicted, Paused

BEAT_S = 2.0
"""Time between two heartbeats."""


class Watch:
    """Looks at the order, and takes in signals."""

    def __init__(self, order: Path) -> None:
        self._order = order
        self._evicted = False

    @property
    def evicted(self) -> bool:
        """Whether the machine wants the process to end."""
        return self._evicted

    def order(self) -> Order:
        """What the service wants."""
        return read_order(self._order)

    def look(self) -> None:
        """Ends what can be ended without a checkpoint, because nothing was trained yet.

        Raises:
            Paused: by the service.
            Cancelled: by the service.
            Evicted: by the machine.
        """
        if self._evicted:
            raise Evicted
        match self.order():
            case Order.PAUSE:
                raise Paused
            case Order.CANCEL:
                raise Cancelled
            case Order.RUN:
                return

    def look_for_cancel(self) -> None:
        """Raises `Cancelled` where the service wants that: between the parts of a long step."""
        if self.order() is Order.CANCEL:
            raise Cancelled

    def catch_signals(self) -> None:
        """Takes SIGTERM and SIGINT for a wish to end soon."""
        signal.signal(signal.SIGTERM, self._evict)
        signal.signal(signal.SIGINT, self._evict)

    def _evict(self, _number: int, _frame: FrameType | None) -> None:
        self._evicted = True


@contextmanager
def heartbeat(folder: JobFolder) -> Generator[None]:
    """Beats as long as the context lasts, whatever the main thread does."""
    stop = threading.Event()

    def beats() -> None:
        beat(folder.heartbeat)
        while not stop.wait(BEAT_S):
            beat(folder.heartbeat)

    thread = threading.Thread(target=beats, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
