"""One request on the step stream, as its client holds it."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from penstock.inference.internal.v1 import step_service_pb2

from policy.limits_port import Allowance

CREDIT = 256
"""Updates that may be on their way to a client."""

Update = step_service_pb2.StepUpdate
Sink = Callable[[str, Update], None]
"""Takes an update and the name of its kind, on the reader's stack: must not raise or block."""


class Stream(Protocol):
    """What a request needs of the stream that it is on."""

    def grant(self, stream_id: int, update_count: int) -> None:
        """Allows more updates."""
        ...

    def cancel(self, stream_id: int) -> None:
        """Ends a request."""
        ...


class StepCall:
    """One request on the step stream.

    Updates go to the `sink` when one is set, else into `buffer`, which credit keeps bounded.
    """

    __slots__ = (
        *("_client", "_ended", "_owed", "_timer", "_waiter"),
        *("buffer", "note", "sink", "stream_id"),
    )

    def __init__(
        self,
        client: Stream,
        stream_id: int,
        timer: asyncio.TimerHandle,
        note: Callable[[Allowance], None] | None = None,
    ) -> None:
        self._client = client
        self.note = note
        self._timer = timer
        self._ended = False
        self._owed = 0
        self._waiter: asyncio.Future[None] | None = None
        self.buffer: deque[tuple[str, Update]] = deque()
        self.sink: Sink | None = None
        self.stream_id = stream_id

    def deliver(self, kind: str, update: Update) -> None:
        """Takes an update from the reader."""
        if self.sink is not None:
            self.sink(kind, update)
        else:
            self.buffer.append((kind, update))
            self.wake()

    def consumed(self) -> None:
        """Says that the client has one more update; grants anew when enough were taken."""
        self._owed += 1
        if self._owed >= CREDIT // 2 and not self._ended:
            self._client.grant(self.stream_id, self._owed)
            self._owed = 0

    async def wait(self, timeout_s: float | None = None) -> None:
        """Waits until `wake` is called or the time is up."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = None if timeout_s is None else loop.call_later(timeout_s, self.wake)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Ends a `wait`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self) -> None:
        """Marks that nothing more comes."""
        self._ended = True
        self._timer.cancel()

    def cancel(self) -> None:
        """Ends the request, if it still runs. Nothing more is delivered."""
        self.sink = None
        self.buffer.clear()
        if not self._ended:
            self.end()
            self._client.cancel(self.stream_id)
