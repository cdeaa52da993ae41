"""Relays the stream of an RPC to a client as server-sent events.

The status is decided by the first event that has something to show, so what fails before it is
answered with a status of its own.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import grpc
from starlette.types import Message, Receive, Send

from gateway.bodies import disconnected
from gateway.errors import ClientGoneError, Problem, ProblemError, from_rpc_error, unavailable
from gateway.sse import PING
from gateway.streams import send_now, stopping
from gateway.telemetry import stream_failed

Event_co = TypeVar("Event_co", covariant=True)
Event_contra = TypeVar("Event_contra", contravariant=True)
Event = TypeVar("Event")

CUT_SHORT = "The answer was cut short. Try again."


class EventCall(Protocol[Event_co]):
    """An RPC that streams."""

    def read(self) -> "asyncio.Future[Event_co] | Any":
        """Returns the next event, or `grpc.aio.EOF`."""
        ...

    def cancel(self) -> bool:
        """Ends it."""
        ...


class Renderer(Protocol[Event_contra]):
    """Turns events into frames. Keeps state, does no I/O."""

    @property
    def finished(self) -> bool:
        """Whether the last frame was made."""
        ...

    def feed(self, event: Event_contra, /) -> Sequence[bytes]:
        """Makes the frames of an event."""
        ...

    def fail(self, problem: Problem) -> bytes:
        """Makes the frame of a failure. No other follows."""
        ...


class EventReader:
    """Reads the events of a call while its client is there."""

    def __init__(self, call: EventCall[Any], receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        self._call = call
        self._gone = loop.create_task(disconnected(receive))
        self._next: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> "EventReader":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gone.cancel()
        self._call.cancel()
        if self._next is not None:
            self._next.cancel()
            # Not suppressed: that would also swallow the cancellation of who waits here.
            await asyncio.gather(self._next, return_exceptions=True)

    async def read(self, timeout_s: float | None = None) -> Any:
        """Returns the next event; None at the end.

        Raises:
            ProblemError: the call failed.
            ClientGoneError: the client left.
            TimeoutError: nothing came in time; the next read goes on waiting.
        """
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(_read(self._call))
        await asyncio.wait(
            (self._next, self._gone), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
        )
        if self._gone.done():
            raise ClientGoneError
        if not self._next.done():
            raise TimeoutError
        done, self._next = self._next, None
        if done.cancelled():  # the channel was closed
            raise ProblemError(unavailable())
        try:
            event = done.result()
        except grpc.aio.AioRpcError as error:
            raise ProblemError(from_rpc_error(error)) from None
        return None if event is grpc.aio.EOF else event


async def relay(
    call: EventCall[Event],
    renderer: Renderer[Event],
    receive: Receive,
    send: Send,
    *,
    headers: Iterable[tuple[bytes, bytes]],
    ping_interval_s: float | None,
    slow_reader_s: float,
) -> None:
    """Answers with the stream of a call. Without a ping interval it sends no pings.

    Raises:
        ProblemError: the call failed before anything was sent.
        ClientGoneError: the client left; the call was cancelled.
    """
    async with EventReader(call, receive) as reader:
        frames: Sequence[bytes] = ()
        while not frames:
            event = await reader.read()
            if event is None:
                raise ProblemError(unavailable(CUT_SHORT))
            frames = renderer.feed(event)
        sender = _Sender(send, slow_reader_s)
        try:
            await sender.send({"type": "http.response.start", "status": 200, "headers": [*headers]})
            while True:
                for frame in frames:
                    await sender.send(_body(frame))
                if renderer.finished:
                    break
                frames = await _next_frames(reader, renderer, ping_interval_s)
        except asyncio.CancelledError:  # the server stops
            if not sender.busy and send_now(send, _body(renderer.fail(stopping()))):
                send_now(send, _END)
            raise
        await sender.send(_END)


async def _next_frames(
    reader: EventReader, renderer: Renderer[Any], ping_interval_s: float | None
) -> Sequence[bytes]:
    """Waits for something to send. A failure is an event too, the last one."""
    loop = asyncio.get_running_loop()
    until = None if ping_interval_s is None else loop.time() + ping_interval_s
    while True:
        try:
            event = await reader.read(None if until is None else max(until - loop.time(), 0))
        except TimeoutError:
            return (PING,)
        except ProblemError as error:
            stream_failed(error.problem.reason)
            return (renderer.fail(error.problem),)
        if event is None:
            return (renderer.fail(unavailable(CUT_SHORT)),)
        frames = renderer.feed(event)
        if frames or renderer.finished:  # some events show nothing, and clients hear nothing
            return frames


class _Sender:
    """Sends to a client that must not stall for long."""

    def __init__(self, send: Send, slow_reader_s: float) -> None:
        self._send = send
        self._slow_reader_s = slow_reader_s
        self.busy = False

    async def send(self, message: Message) -> None:
        self.busy = True
        try:
            async with asyncio.timeout(self._slow_reader_s):
                await self._send(message)
        except TimeoutError:
            raise ClientGoneError from None
        self.busy = False


async def _read(call: EventCall[Event]) -> Any:
    return await call.read()


_END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


def _body(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}
