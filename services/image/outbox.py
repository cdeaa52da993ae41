"""Between a job and its reader: events in order, in bounded memory.

Progress that was not read yet is replaced by newer progress. Images are kept until they are read;
while too many bytes of them are unread, the job has nothing more drawn.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from services.image.events import Event, FinishedImage, PartialImage, Progress

MOST_BYTES = 32 * 1024 * 1024
"""Of unread images, beyond which a job waits for its reader."""


class Outbox:
    """Events of one job. To be used on one event loop."""

    def __init__(
        self,
        *,
        timeout_s: float = 30.0,
        most_bytes: int = MOST_BYTES,
        on_room: Callable[[], None] = lambda: None,
        on_slow: Callable[[], None] = lambda: None,
    ) -> None:
        """Begins empty.

        Args:
            timeout_s: longest time that something lies unread.
            most_bytes: of unread images, beyond which it is full.
            on_room: is called when it was full and is no longer.
            on_slow: is called when something lay unread for too long.
        """
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self._on_room = on_room
        self._on_slow = on_slow
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._stirred = asyncio.Event()
        self._closed = False
        self._error: Exception | None = None
        self._moved = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def full(self) -> bool:
        """Whether nothing more is to be drawn until something is read."""
        return self._bytes > self._most_bytes

    def put(self, event: Event) -> None:
        """Adds an event, in place of the last where both tell progress."""
        if self._closed:
            return
        last = self._events[-1] if self._events else None
        if isinstance(event, Progress) and isinstance(last, Progress):
            # The picture stays until there is a newer one, or none.
            self._events[-1] = event if event.preview else _with_preview(event, last)
            return
        self._watch()
        self._events.append(event)
        self._bytes += _size(event)
        self._stirred.set()

    def close(self, error: Exception | None = None) -> None:
        """Ends after what is in it, with an error where one is given."""
        if not self._closed:
            self._closed, self._error = True, error
            self._stirred.set()

    def abandon(self, error: Exception | None = None) -> None:
        """Lets go of all that is unread, and ends, with an error where one is given."""
        self._closed, self._error = True, error
        self._events.clear()
        self._bytes = 0
        self._unwatch()
        self._stirred.set()

    async def events(self) -> AsyncGenerator[Event, None]:
        """All events, until it is closed. Raises the error that it was closed with."""
        while True:
            while self._events:
                was_full = self.full
                event = self._events.popleft()
                self._bytes -= _size(event)
                self._moved = asyncio.get_running_loop().time()
                if not self._events:
                    self._unwatch()
                if was_full and not self.full:
                    self._on_room()
                yield event
            if self._error is not None:
                raise self._error
            if self._closed:
                return
            self._stirred.clear()
            await self._stirred.wait()

    def _watch(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._moved = loop.time()
            self._timer = loop.call_later(self._timeout_s, self._look)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        left_s = self._moved + self._timeout_s - loop.time()
        if left_s > 0:
            self._timer = loop.call_later(left_s, self._look)
            return
        self._timer = None
        self._on_slow()


def _size(event: Event) -> int:
    return len(event.data) if isinstance(event, FinishedImage | PartialImage) else 0


def _with_preview(event: Progress, before: Progress) -> Progress:
    return replace(event, preview=before.preview)
