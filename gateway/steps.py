"""The client of the step stream: one bidirectional stream to an engine process for all requests.

One message brings the news of an engine step for every request, so a token costs far less than
one message of its own. There is no flow control per request in that, so each has credit: the
engine side sends no more updates than were granted, and grants follow what the client's socket
took. Starts and grants that are ready together share a message in the same way.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Mapping

import grpc
from google.rpc import status_pb2
from penstock.inference.internal.v1 import step_service_pb2
from penstock.inference.v1 import inference_service_pb2 as inference_pb2

from gateway.errors import Problem, ProblemError, unavailable

_logger = logging.getLogger(__name__)

_METHOD = "/penstock.inference.internal.v1.StepService/StepStream"
_CREDIT = 256
_MOST_STREAMS = 8192
_MOST_BYTES = 65 * 1024 * 1024 - 4096
"""A message over the channel's limit would break the stream for every other request too."""
_SHARED_BYTES = 64 * 1024
"""A message takes no further word when it has so many bytes of them."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_SETTLED_S = 5.0
_DEADLINE_SLACK_S = 5.0

Update = step_service_pb2.StepUpdate
Sink = Callable[[str, Update], None]
"""Takes an update and the name of its kind, on the reader's stack: must not raise or block."""

TextRequest = inference_pb2.ChatRequest | inference_pb2.CompleteRequest


class StepCall:
    """One request on the step stream.

    Updates go to the `sink` when one is set, else into `buffer`, which credit keeps bounded.
    """

    __slots__ = ("_client", "_ended", "_owed", "_timer", "_waiter", "buffer", "sink", "stream_id")

    def __init__(self, client: "StepClient", stream_id: int, timer: asyncio.TimerHandle) -> None:
        self._client = client
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
        if self._owed >= _CREDIT // 2 and not self._ended:
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


class StepClient:
    """Keeps the step stream to one engine process, and the requests on it."""

    def __init__(
        self, channel: grpc.aio.Channel, metadata: Mapping[str, str], address: str
    ) -> None:
        # The stub's own method would serialise words one by one; here they are bytes already.
        self._method: grpc.aio.StreamStreamMultiCallable[
            bytes, step_service_pb2.StepStreamResponse
        ] = channel.stream_stream(
            _METHOD, response_deserializer=step_service_pb2.StepStreamResponse.FromString
        )
        self._metadata = tuple(metadata.items())
        self._address = address
        self._calls: dict[int, StepCall] = {}
        self._last_id = 0
        self._outbox: deque[bytes] = deque()
        self._outgoing = asyncio.Event()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def live_count(self) -> int:
        """Requests that run."""
        return len(self._calls)

    def start(self) -> None:
        """Connects, and connects again whenever the stream breaks."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="step-stream")

    async def close(self) -> None:
        """Fails what runs and closes the stream."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._fail_all(grpc.StatusCode.UNAVAILABLE)

    def open(
        self,
        request: TextRequest,
        metadata: Mapping[str, str],
        timeout_s: float,
        *,
        whole: bool = False,
    ) -> StepCall:
        """Starts a request; the answer to a `whole` one comes at once.

        Raises:
            ProblemError: too many run already, or the request is too large for a message.
        """
        if len(self._calls) >= _MOST_STREAMS:
            message = "The server has too many open streams. Try again shortly."
            raise ProblemError(Problem("QUEUE_FULL", message))
        stream_id = self._last_id + 1
        word = step_service_pb2.StepStreamRequest(stream_id=stream_id)
        start = word.start
        start.metadata.update(metadata)
        start.timeout_ms = max(1, round(timeout_s * 1000))
        start.credit = _CREDIT
        start.whole = whole
        if isinstance(request, inference_pb2.ChatRequest):
            start.chat.CopyFrom(request)
        else:
            start.complete.CopyFrom(request)
        data = word.SerializeToString()
        if len(data) > _MOST_BYTES:
            raise ProblemError(Problem("MESSAGE_TOO_LARGE", "The request is too large."))
        self._last_id = stream_id
        # The service ends streams in time by itself, and says more of why.
        wait_s = timeout_s if whole else timeout_s + _DEADLINE_SLACK_S
        timer = asyncio.get_running_loop().call_later(wait_s, self._expire, stream_id)
        call = self._calls[stream_id] = StepCall(self, stream_id, timer)
        self._put(data)
        self._wanted.set()
        return call

    def grant(self, stream_id: int, update_count: int) -> None:
        """Allows more updates."""
        credit = step_service_pb2.Credit(update_count=update_count)
        word = step_service_pb2.StepStreamRequest(stream_id=stream_id, credit=credit)
        self._put(word.SerializeToString())

    def cancel(self, stream_id: int) -> None:
        """Ends a request."""
        if self._calls.pop(stream_id, None) is not None:
            cancel = step_service_pb2.Cancel()
            word = step_service_pb2.StepStreamRequest(stream_id=stream_id, cancel=cancel)
            self._put(word.SerializeToString())

    def _put(self, word: bytes) -> None:
        self._outbox.append(word)
        self._outgoing.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_S
        while True:
            since = loop.time()
            cause = await self._converse()
            self._outbox.clear()
            self._wanted.clear()
            failed = self._fail_all(grpc.StatusCode.UNAVAILABLE)
            settled = loop.time() - since > _SETTLED_S
            if settled or failed:
                level = logging.WARNING if failed else logging.INFO
                text = "the step stream to %s broke (%s); %d requests failed"
                _logger.log(level, text, self._address, cause, failed)
            if settled:
                pause = _FIRST_PAUSE_S
            try:
                async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _converse(self) -> str:
        """Reads the stream until it breaks; returns why it did."""
        call = self._method(metadata=self._metadata)
        writer = asyncio.get_running_loop().create_task(self._write(call))
        calls = self._calls
        try:
            async for response in call:
                for update in response.updates:
                    receiver = calls.get(update.stream_id)
                    if receiver is not None:
                        kind = update.WhichOneof("update") or ""
                        if kind != "text" and _is_last(kind, update):
                            del calls[update.stream_id]
                            receiver.end()
                        receiver.deliver(kind, update)
            return "closed by the server"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            call.cancel()

    async def _write(
        self, call: grpc.aio.StreamStreamCall[bytes, step_service_pb2.StepStreamResponse]
    ) -> None:
        while True:
            while self._outbox:
                await call.write(self._next_message())
            self._outgoing.clear()
            await self._outgoing.wait()

    def _next_message(self) -> bytes:
        outbox = self._outbox
        first = outbox.popleft()
        if not outbox or len(first) + len(outbox[0]) > _SHARED_BYTES:
            return first
        words = [first]
        size = len(first)
        while outbox and size + len(outbox[0]) <= _SHARED_BYTES:
            words.append(outbox.popleft())
            size += len(words[-1])
        return step_service_pb2.StepStreamRequest(words=words).SerializeToString()

    def _fail_all(self, code: grpc.StatusCode) -> int:
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            _fail(call, code)
        return len(calls)

    def _expire(self, stream_id: int) -> None:
        call = self._calls.get(stream_id)
        if call is not None:
            self.cancel(stream_id)
            _fail(call, grpc.StatusCode.DEADLINE_EXCEEDED)


def _fail(call: StepCall, code: grpc.StatusCode) -> None:
    call.end()
    status = status_pb2.Status(code=code.value[0], message=unavailable().message)
    call.deliver("error", Update(stream_id=call.stream_id, error=status))


def _is_last(kind: str, update: Update) -> bool:
    if kind == "chat":
        return update.chat.HasField("done")
    if kind == "complete":
        return update.complete.HasField("done")
    return kind != "piece"
