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
from gateway.step_calls import CREDIT, StepCall, Update
from policy.cancelling import heed_cancellation
from policy.limits_port import Allowance

_logger = logging.getLogger(__name__)

_METHOD = "/penstock.inference.internal.v1.StepService/StepStream"
_MOST_STREAMS = 8192
_MOST_BYTES = 65 * 1024 * 1024 - 4096
"""A message over the channel's limit would break the stream for every other request too."""
_SHARED_BYTES = 64 * 1024
"""A message takes no further word when it has so many bytes of them."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_SETTLED_S = 5.0
_DEADLINE_SLACK_S = 5.0
_WHOLE_SLACK_S = 1.0

__all__ = ["StepCall", "StepClient", "TextRequest", "Update"]

TextRequest = inference_pb2.ChatRequest | inference_pb2.CompleteRequest


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
        self.break_count = 0
        """Times that it broke while requests were on it."""

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
        note: Callable[[Allowance], None] | None = None,
    ) -> StepCall:
        """Starts a request; the answer to a `whole` one comes at once. `note` is told what the
        caller may still use of its tokens, before the first update is there.

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
        start.credit = CREDIT
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
        wait_s = timeout_s + (_WHOLE_SLACK_S if whole else _DEADLINE_SLACK_S)
        timer = asyncio.get_running_loop().call_later(wait_s, self._expire, stream_id)
        call = self._calls[stream_id] = StepCall(self, stream_id, timer, note)
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
            self.break_count += failed > 0
            heed_cancellation()
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
                        if kind != "text":
                            if receiver.note is not None and update.HasField("tokens"):
                                receiver.note(_allowance(update.tokens))
                            if _is_last(kind, update):
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


def _allowance(told: step_service_pb2.TokenAllowance) -> Allowance:
    return Allowance(told.limit, told.remaining, told.reset_ms / 1000)


def _is_last(kind: str, update: Update) -> bool:
    if kind == "chat":
        return update.chat.HasField("done")
    if kind == "complete":
        return update.complete.HasField("done")
    return kind != "piece"
