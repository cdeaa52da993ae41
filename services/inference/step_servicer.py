"""StepService over gRPC: many requests of one edge over one stream, one message per engine step.

The stream itself is open to anybody, since nothing runs on it without credentials: each start is
authenticated with its caller's own metadata.
"""
# ruff: noqa: N802 - methods bear the names of their RPCs

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import BytesValue
from penstock.inference.internal.v1 import step_service_pb2 as pb
from penstock.inference.internal.v1.step_service_pb2_grpc import StepServiceServicer

from services.errors import InvalidArgument, Unavailable
from services.inference.generation import Generator
from services.inference.step_answers import AnswersOut
from services.inference.step_streams import StepStream
from services.rpc.access import draining, open_method
from services.rpc.authentication import Authenticator
from services.rpc.limits import CallLimits


class StepServicer(StepServiceServicer):
    """Runs what edges ask for over their streams."""

    def __init__(
        self,
        generator: Generator,
        authenticator: Authenticator,
        *,
        slow_reader_timeout_s: float = 30.0,
        limits: CallLimits | None = None,
    ) -> None:
        """Takes what generates, who tells callers apart, and what limits them."""
        self._generator = generator
        self._authenticator = authenticator
        self._limits = limits
        self._slow_reader_timeout_s = slow_reader_timeout_s

    @open_method
    async def StepStream(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncGenerator[pb.StepStreamResponse, None]:
        """Runs requests until the edge closes the stream."""
        session = StepSession(
            self._generator,
            self._authenticator,
            self._slow_reader_timeout_s,
            draining(),
            self._limits,
        )
        reader = asyncio.create_task(session.read(request_iterator), name="step-stream-reader")
        try:
            while (message := await session.next()) is not None:
                yield message
        finally:
            reader.cancel()
            session.close()
        if reader.done() and not reader.cancelled():
            reader.result()


class StepSession:
    """One edge's stream: its requests, and the message that is being filled for it."""

    def __init__(
        self,
        generator: Generator,
        authenticator: Authenticator,
        slow_reader_timeout_s: float,
        drains: asyncio.Event,
        limits: CallLimits | None = None,
    ) -> None:
        self.generator = generator
        self.limits = limits
        self.authenticator = authenticator
        self.slow_reader_timeout_s = slow_reader_timeout_s
        self.drains = drains
        self.answers = AnswersOut()
        self._streams: dict[int, StepStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._response = pb.StepStreamResponse()
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    async def read(self, requests: AsyncIterator[BytesValue]) -> None:
        """Takes the edge's words until it closes its side or breaks the rules."""
        watch = asyncio.create_task(self._watch_drain())
        try:
            async for raw in requests:
                request = _parse(raw.value)
                for word in map(_parse, request.words) if request.words else (request,):
                    self._take(word)
        finally:
            watch.cancel()
            self.close()

    async def next(self) -> pb.StepStreamResponse | None:
        """Returns all that the last step brought, waiting for it; None at the end."""
        while not self._response.updates and not self.answers:
            if self._closed or (self.drains.is_set() and not self._streams):
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        response, self._response = self._response, pb.StepStreamResponse()
        if self.answers:
            self.answers.fill(response.updates)
        return response

    @property
    def updates(self) -> Any:
        """Updates of the message that goes out next."""
        return self._response.updates

    def wake(self) -> None:
        """Lets the message go out once this callback of the event loop is over."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def forget(self, stream_id: int) -> None:
        """Drops a request that has ended."""
        self._streams.pop(stream_id, None)

    def close(self) -> None:
        """Cancels all that still runs."""
        self._closed = True
        for stream in tuple(self._streams.values()):
            stream.cancel()
        self._streams.clear()
        self.answers.clear()
        for task in tuple(self._tasks):
            task.cancel()
        self.wake()

    def _take(self, request: pb.StepStreamRequest) -> None:
        match request.WhichOneof("action"):
            case "credit":
                stream = self._streams.get(request.stream_id)
                if stream is not None:
                    stream.add_credit(request.credit.update_count)
            case "start":
                self._start(request.stream_id, request.start)
            case "cancel":
                stream = self._streams.pop(request.stream_id, None)
                if stream is not None:
                    stream.cancel()
                    self.wake()
                elif self.answers:
                    self.answers.drop(request.stream_id)
            case _:
                raise InvalidArgument("A message without action came.", field="action")

    def _start(self, stream_id: int, start: pb.Start) -> None:
        if stream_id in self._streams:
            raise InvalidArgument(f"The stream {stream_id} runs already.", field="stream_id")
        stream = self._streams[stream_id] = StepStream(self, stream_id, start)
        if self.drains.is_set():
            stream.fail(Unavailable("The server is shutting down. Call again.", retry_after_s=1.0))
            return
        task = asyncio.create_task(stream.begin(start), name=f"step-stream-{stream_id}")
        stream.starting = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch_drain(self) -> None:
        await self.drains.wait()
        self.wake()


def _parse(raw: bytes) -> pb.StepStreamRequest:
    try:
        return pb.StepStreamRequest.FromString(raw)
    except DecodeError:
        raise InvalidArgument("The message is no StepStreamRequest.") from None


def add_step_service(servicer: StepServicer, server: Any) -> None:
    """Adds the service to a server, in place of the generated function.

    Requests arrive as bytes in a wrapper: the chassis validates what it parses, and one invalid
    start among many must fail alone, not the stream.
    """
    service = pb.DESCRIPTOR.services_by_name["StepService"].full_name
    handlers = {
        "StepStream": grpc.stream_stream_rpc_method_handler(
            servicer.StepStream,
            request_deserializer=lambda raw: BytesValue(value=raw),
            response_serializer=pb.StepStreamResponse.SerializeToString,
        )
    }
    generic = grpc.method_handlers_generic_handler(service, handlers)
    server.add_generic_rpc_handlers((generic,))
    server.add_registered_method_handlers(service, handlers)
