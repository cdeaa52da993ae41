"""Drives one streamed answer: from the step stream's updates to the client's socket.

An update is rendered and sent on the stack of the step reader. Only when the socket is full, and
`send` suspends, does the request's own task take over until the client has caught up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from starlette.types import Message, Receive, Send

from gateway.bodies import disconnected
from gateway.errors import ClientGoneError, Problem, ProblemError, from_status, unavailable
from gateway.inline import Steps, resumed, steps_of
from gateway.sse import HEADERS, PING
from gateway.step_calls import StepCall, Update
from gateway.telemetry import stream_failed

Closing = Callable[[], Awaitable[Sequence[bytes]]]
"""Makes the last frames of a stream, of what the renderer knows when it has finished."""


class Renderer(Protocol):
    """Turns the updates of one stream into frames. Keeps state, does no I/O."""

    finished: bool
    """Whether the last frame was made."""

    def text(self, text: str) -> bytes | None:
        """Makes the frame of text added to choice 0; None leaves an update of text to `feed`."""
        ...

    def feed(self, update: Update) -> Sequence[bytes]:
        """Makes the frames of any other update."""
        ...

    def fail(self, problem: Problem) -> bytes:
        """Makes the frame of a failure. No other follows."""
        ...


async def stream(
    call: StepCall,
    renderer: Renderer,
    receive: Receive,
    send: Send,
    *,
    ping_interval_s: float | None,
    slow_reader_s: float,
    headers: Iterable[tuple[bytes, bytes]] = HEADERS,
    ping: bytes = PING,
    closing: Closing | None = None,
) -> None:
    """Answers with the stream of a call. The status is decided by the call's first update.

    A stream without a ping interval says nothing while there is nothing to say. `closing` makes the
    last frames, behind those of the renderer.

    Raises:
        ProblemError: the call failed before anything was sent.
        ClientGoneError: the client left; the call was cancelled.
    """
    loop = asyncio.get_running_loop()
    gone = loop.create_task(disconnected(receive))
    gone.add_done_callback(lambda _: call.wake())
    try:
        while not call.buffer:
            if gone.done():
                raise ClientGoneError
            await call.wait()
        kind, update = call.buffer[0]
        if kind == "error":
            raise ProblemError(from_status(update.error))
        driver = _Driver(call, renderer, send, gone, ping_interval_s, slow_reader_s, ping)
        await driver.run(headers, closing)
    finally:
        gone.cancel()
        call.cancel()


class _Driver:
    """Sends one stream after its first update has come."""

    def __init__(
        self,
        call: StepCall,
        renderer: Renderer,
        send: Send,
        gone: asyncio.Task[None],
        ping_interval_s: float | None,
        slow_reader_s: float,
        ping: bytes,
    ) -> None:
        self._call = call
        self._renderer = renderer
        self._send = send
        self._gone = gone
        self._ping_interval_s = ping_interval_s
        self._slow_reader_s = slow_reader_s
        self._ping = ping
        self._loop = asyncio.get_running_loop()
        self._last_sent = self._loop.time()
        self._ended = False
        self._broken: Exception | None = None
        self._suspended: tuple[Steps, Any, Sequence[bytes]] | None = None

    async def run(self, headers: Iterable[tuple[bytes, bytes]], closing: Closing | None) -> None:
        """Sends until the stream has ended or the client has left."""
        try:
            await self._send({"type": "http.response.start", "status": 200, "headers": [*headers]})
            await self._relay()
            if closing is not None:
                for data in await closing():
                    await self._slowly(_body(data))
        except asyncio.CancelledError:
            self._say_farewell()
            raise
        await self._slowly({"type": "http.response.body", "body": b"", "more_body": False})

    async def _relay(self) -> None:
        call = self._call
        while True:
            if self._suspended is not None:
                steps, waiting, rest = self._suspended
                self._suspended = None
                await self._catch_up(steps, waiting, rest)
            while call.buffer and not self._ended:
                for data in self._render(*call.buffer.popleft()):
                    await self._slowly(_body(data))
                call.consumed()
            if self._ended:
                return
            if self._gone.done():
                raise ClientGoneError
            call.sink = self._take
            await call.wait(self._until_ping())
            call.sink = None
            if self._broken is not None:
                raise self._broken
            if self._suspended is None and not call.buffer and not self._ended:
                await self._ping_if_due()

    def _until_ping(self) -> float | None:
        if self._ping_interval_s is None:
            return None
        return max(self._last_sent + self._ping_interval_s - self._loop.time(), 0.001)

    async def _ping_if_due(self) -> None:
        interval_s = self._ping_interval_s
        if interval_s is not None and self._loop.time() - self._last_sent >= interval_s:
            await self._slowly(_body(self._ping))

    def _render(self, kind: str, update: Update) -> Sequence[bytes]:
        if kind == "text":
            frame = self._renderer.text(update.text)
            if frame is not None:
                return (frame,)
        if kind == "error":
            self._ended = True
            problem = from_status(update.error)
            stream_failed(problem.reason)
            return (self._renderer.fail(problem),)
        frames = self._renderer.feed(update)
        self._ended = self._renderer.finished
        return frames

    def _take(self, kind: str, update: Update) -> None:
        """Renders and sends on the reader's stack, as far as the socket takes it."""
        try:
            text = self._renderer.text(update.text) if kind == "text" else None
            if text is not None:  # nearly every update: it needs no list of frames
                sent = self._send_inline(text, ())
            else:
                frames = self._render(kind, update)
                sent = all(self._send_inline(f, frames[n:]) for n, f in enumerate(frames, start=1))
            if not sent:
                return
            self._last_sent = self._loop.time()
            self._call.consumed()
            if self._ended:
                self._hand_over()
        except Exception as error:  # must not end the reader: it serves every other stream too
            self._broken = error
            self._hand_over()

    def _send_inline(self, data: bytes, rest: Sequence[bytes]) -> bool:
        """Sends if that needs no waiting; else leaves it, and the rest, to the request's task."""
        steps = steps_of(self._send(_body(data)))
        try:
            waiting = steps.send(None)
        except StopIteration:
            return True
        self._suspended = (steps, waiting, rest)
        self._hand_over()
        return False

    def _hand_over(self) -> None:
        self._call.sink = None
        self._call.wake()

    async def _catch_up(self, steps: Steps, waiting: object, rest: Sequence[bytes]) -> None:
        try:
            async with asyncio.timeout(self._slow_reader_s):
                await resumed(steps, waiting)
        except TimeoutError:
            raise ClientGoneError from None
        for data in rest:
            await self._slowly(_body(data))
        self._last_sent = self._loop.time()
        self._call.consumed()

    async def _slowly(self, message: Message) -> None:
        """Sends from the request's own task."""
        try:
            async with asyncio.timeout(self._slow_reader_s):
                await self._send(message)
        except TimeoutError:
            raise ClientGoneError from None
        self._last_sent = self._loop.time()

    def _say_farewell(self) -> None:
        """The server stops: says so if the socket takes it at once."""
        if self._suspended is not None or self._ended:
            return
        farewell = self._renderer.fail(stopping())
        if send_now(self._send, _body(farewell)):
            send_now(self._send, {"type": "http.response.body", "body": b"", "more_body": False})


def stopping() -> Problem:
    """Makes the problem of a request that the server's stop cut short."""
    return unavailable("The server is shutting down. Try again shortly.")


def send_now(send: Send, message: Message) -> bool:
    """Sends if that needs no waiting; tells whether it was sent."""
    steps = steps_of(send(message))
    try:
        steps.send(None)
    except StopIteration:
        return True
    steps.close()
    return False


def _body(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}
