"""A bounded buffer between an engine that pushes and a reader that pulls."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from services.errors import SlowReader
from services.inference.events import Aborted, AnyEvent


class Pausable(Protocol):
    """What fills a buffer."""

    def pause(self) -> None:
        """Fills it no more."""
        ...

    def resume(self) -> None:
        """Fills it again."""
        ...

    def cancel(self) -> None:
        """Never fills it again."""
        ...


def slow_reader(timeout_s: float) -> SlowReader:
    """The error for a reader that stayed behind for this long."""
    return SlowReader(
        f"The answer was not read for {timeout_s:g} s, so it was cancelled. Read faster."
    )


class EventBuffer:
    """Pauses its source when it is full, and gives the reader up when it stays full."""

    def __init__(self, limit: int, timeout_s: float) -> None:
        self._limit = limit
        self._timeout_s = timeout_s
        self._events: deque[AnyEvent] = deque()
        self._source: Pausable | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def attach(self, source: Pausable) -> None:
        """Names what is to be paused."""
        self._source = source

    def put(self, events: Sequence[AnyEvent]) -> None:
        """Takes events; an `EventSink`."""
        self._events.extend(events)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if len(self._events) >= self._limit and self._timer is None and self._source is not None:
            self._source.pause()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._timeout_s, self._give_up)

    async def get(self) -> AnyEvent:
        """Returns the next event, waiting for it."""
        while not self._events:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.popleft()
        if self._timer is not None and len(self._events) <= self._limit // 2:
            self.close()
            if self._source is not None:
                self._source.resume()
        return event

    def close(self) -> None:
        """Stops the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._source is not None:
            self._source.cancel()
            self._source = None
        self._events.append(Aborted(slow_reader(self._timeout_s)))
