"""Places in a queue: how many jobs there may be, and how many bytes of pictures they may hold."""

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass

from services.errors import QueueFull


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Bounds of one model's queue."""

    jobs: int = 64
    """Jobs that wait and run."""
    bytes: int = 1024 * 1024 * 1024
    """Of pictures that their jobs hold. A job that has more comes in when there is no other."""


class Place:
    """A place in the queue."""

    def __init__(self, hold: Callable[[int, int], None]) -> None:
        self._hold = hold
        self.held_bytes = 0

    def hold(self, count: int) -> None:
        """Takes in that its job holds so many bytes more. Raises `QueueFull`."""
        self._hold(count, self.held_bytes)
        self.held_bytes += count


class Places:
    """The places of one queue."""

    def __init__(self, limits: QueueLimits, full: Callable[[str], QueueFull]) -> None:
        """Begins empty. `full` makes the error of a message: it knows when to try again."""
        self._limits = limits
        self._full = full
        self._bytes = 0
        self.taken = 0
        """How many."""

    @contextlib.contextmanager
    def take(self, held_bytes: int) -> Generator[Place]:
        """Holds a place. Raises `QueueFull` where there is none."""
        if self.taken >= self._limits.jobs:
            raise self._full(f"{self.taken} jobs wait for this model already: try again later.")
        place = Place(self._hold)
        self.taken += 1
        try:
            place.hold(held_bytes)
            yield place
        finally:
            self.taken -= 1
            self._bytes -= place.held_bytes

    def _hold(self, more: int, held: int) -> None:
        others = self._bytes - held
        if others and self._bytes + more > self._limits.bytes:
            raise self._full(
                "The jobs that wait for this model hold as many bytes of pictures as they may "
                "([services.image] queue_bytes): try again later, or with smaller ones."
            )
        self._bytes += more
