"""One request of a step stream: its credit, what waits for credit, and its end."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import grpc
from penstock.inference.internal.v1 import step_service_pb2 as pb

from policy.principals import Role
from services.errors import DomainError, Internal, InvalidArgument
from services.inference.buffers import slow_reader
from services.inference.callers import caller_of
from services.inference.convert import to_chat_request, to_complete_request
from services.inference.convert_events import from_chat_event, from_complete_event
from services.inference.events import Aborted, AnyEvent, Delta, Done
from services.inference.generation import Generator
from services.inference.requests import Caller, GenerationRequest
from services.inference.runs import Run
from services.inference.step_answers import AnswersOut, written
from services.rpc.access import require
from services.rpc.authentication import Authenticator, authenticated
from services.rpc.call import Call, enter, opened
from services.rpc.endings import ended
from services.rpc.errors import HIDDEN, status_code, to_status
from services.rpc.limits import CallLimits
from services.rpc.metering import work_of
from services.rpc.validation import validate

_log = logging.getLogger(__name__)
_SERVICE = "penstock.inference.v1.InferenceService"
_METHOD = "/penstock.inference.internal.v1.StepService/StepStream:"
_MOST_WAITING = 16
"""Updates that may wait for credit before the engine is paused."""


class Session(Protocol):
    """What a request needs of the stream that it rides on."""

    generator: Generator
    authenticator: Authenticator
    limits: CallLimits | None
    slow_reader_timeout_s: float
    drains: asyncio.Event
    answers: AnswersOut
    """Whole answers for the messages that go out next."""

    @property
    def updates(self) -> Any:
        """Updates of the message that goes out next."""
        ...

    def wake(self) -> None:
        """Lets the message go out."""
        ...

    def forget(self, stream_id: int) -> None:
        """Drops a request that has ended."""
        ...


class StepStream:
    """Turns a request's events into updates, as many as there is credit for."""

    def __init__(self, session: Session, stream_id: int, start: pb.Start) -> None:
        self.starting: asyncio.Task[None] | None = None
        self._session = session
        self._id = stream_id
        self._kind = start.WhichOneof("request") or "chat"
        self._credit = max(1, start.credit)
        self._waiting: deque[AnyEvent] = deque()
        self._run: Run | None = None
        self._paused = False
        self._ended = False
        self._told = False
        self._timer: asyncio.TimerHandle | None = None
        self._call = opened(_METHOD + self._kind, start.metadata, session.drains)

    async def begin(self, start: pb.Start) -> None:
        """Authenticates, validates and starts the request; sees a whole answer through."""
        enter(self._call)
        try:
            request, caller = await self._admit(start)
            if start.whole:
                await self._answer(request, caller)
                return
            run = await self._session.generator.start(request, self.take, caller)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.fail(error)
            return
        self._run = run
        if self._ended:
            run.cancel()

    def fail(self, error: Exception) -> None:
        """Ends the request with an error, whatever still waits."""
        if self._ended:
            return
        if not isinstance(error, DomainError):
            _log.exception("A request of a step stream failed.", exc_info=error)
        told = error if isinstance(error, DomainError) else Internal(HIDDEN)
        self._end(status_code(error), told)
        self._add(error=to_status(error))
        self._session.wake()

    def cancel(self) -> None:
        """Ends the request without a word."""
        self._end(grpc.StatusCode.CANCELLED)

    def add_credit(self, count: int) -> None:
        """Allows more updates, and sends what waited for them."""
        self._credit += max(0, count)
        waiting = self._waiting
        while waiting and self._credit > 0 and not self._ended:
            self._emit(waiting.popleft())
        self._session.wake()
        if waiting or self._ended:
            return
        self._stop_timer()
        if self._paused and self._run is not None:
            self._paused = False
            self._run.resume()

    def take(self, events: Sequence[AnyEvent]) -> None:
        """Takes what one engine step brought; an `EventSink`."""
        for event in events:
            if self._ended:
                return
            if self._credit > 0:
                self._emit(event)
            else:
                self._wait(event)
        self._session.wake()

    async def _admit(self, start: pb.Start) -> tuple[GenerationRequest, Caller]:
        principal = await authenticated(self._session.authenticator, start.metadata)
        self._call.principal = principal
        require(principal, Role.USER)
        remaining_s = start.timeout_ms / 1000 if start.timeout_ms > 0 else None
        if self._session.limits is not None:
            await self._session.limits.admit(self._call, start.metadata)
        request = _request(start)
        asked = start.chat if self._kind == "chat" else start.complete
        method = f"{_SERVICE}/{'' if start.whole else 'Stream'}{self._kind.capitalize()}"
        work = replace(await work_of(asked), method=method)
        return request, caller_of(principal, self._call.request_id, remaining_s, work=work)

    async def _answer(self, request: GenerationRequest, caller: Caller) -> None:
        """Sends the whole answer. Cancelling the task cancels the request."""
        answer = await self._session.generator.collect(request, caller)
        data = await written(answer, self._kind)
        if not self._ended:
            self._session.answers.put(self._id, data, _tokens(self._call))
            self._session.wake()
            self._end(grpc.StatusCode.OK)

    def _emit(self, event: AnyEvent) -> None:
        self._credit -= 1
        if type(event) is Delta and not event.index and not event.logprobs:
            self._session.updates.add(stream_id=self._id, text=event.text)
        elif isinstance(event, Aborted):
            self.fail(event.error)
        elif self._kind == "chat":
            self._add(chat=from_chat_event(event))
        else:
            self._add(complete=from_complete_event(event))
        if isinstance(event, Done):
            self._end(grpc.StatusCode.OK)

    def _add(self, **update: Any) -> None:
        """Adds an update; the first tells what is left of the caller's tokens."""
        added = self._session.updates.add(stream_id=self._id, **update)
        if not self._told:
            self._told = True
            tokens = _tokens(self._call)
            if tokens is not None:
                added.tokens.CopyFrom(tokens)

    def _wait(self, event: AnyEvent) -> None:
        self._waiting.append(event)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._session.slow_reader_timeout_s, self._give_up)
        if len(self._waiting) >= _MOST_WAITING and not self._paused and self._run is not None:
            self._paused = True
            self._run.pause()

    def _give_up(self) -> None:
        self.fail(slow_reader(self._session.slow_reader_timeout_s))

    def _end(self, code: grpc.StatusCode, error: DomainError | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        self._stop_timer()
        self._waiting.clear()
        if self._run is not None:
            self._run.cancel()
        elif self.starting is not None and self.starting is not asyncio.current_task():
            self.starting.cancel()
        if self._call.admission is not None:
            self._call.admission.end()
        self._session.forget(self._id)
        ended(self._call, code, quiet=False, error=error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _tokens(call: Call) -> pb.TokenAllowance | None:
    left = call.tokens
    if left is None:
        return None
    return pb.TokenAllowance(
        limit=left.limit, remaining=left.remaining, reset_ms=round(left.reset_s * 1000)
    )


def _request(start: pb.Start) -> GenerationRequest:
    """Reads the request that a start holds. Raises what validation raises."""
    match start.WhichOneof("request"):
        case "chat":
            validate(start.chat)
            return to_chat_request(start.chat)
        case "complete":
            validate(start.complete)
            return to_complete_request(start.complete)
        case _:
            raise InvalidArgument("The start holds no request.", field="request")
