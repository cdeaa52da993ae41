"""What every call passes through: request ID, trace, authentication, roles, validation, errors,
access log.

The steps are composed once for each method when the server starts, not looked up for each call: a
unary call costs one Python frame and a few plain function calls, and streamed messages cost no
frame at all. Requests are parsed behind authentication, so that strangers can't make the server
parse, and malformed bytes become INVALID_ARGUMENT.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import TYPE_CHECKING, Any, NoReturn, cast

import grpc
from grpc import StatusCode

from services.errors import DomainError, Unavailable
from services.rpc import access_log, failures
from services.rpc.access import Access, require
from services.rpc.authentication import Authenticator, authenticated
from services.rpc.call import Call, enter
from services.rpc.errors import status_code
from services.rpc.limits import CallLimits, told
from services.rpc.metadata import (
    DIALECT_KEY,
    REQUEST_ID_KEY,
    TRACEPARENT_KEY,
    Context,
    dialect_from,
    request_id_from,
    spiffe_id_of,
)
from services.rpc.tracing import continue_trace
from services.rpc.validation import validate

_TICK_S = 0.01
_DISCARD_S = 0.25

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:  # generic for type checkers only
    Handler = grpc.RpcMethodHandler


class Chain:
    """Wraps handlers with what every call passes through."""

    def __init__(self, authenticator: Authenticator, limits: CallLimits | None = None) -> None:
        """Takes who tells callers apart, and what limits them. None: nothing does."""
        self._authenticator = authenticator
        self._limits = limits
        self.draining = asyncio.Event()
        """Set once the server drains."""
        self.running = 0
        """Calls that have begun and not ended."""
        self._endless: set[asyncio.Task[Any]] = set()

    def end_endless(self) -> None:
        """Ends the streams that have no end of their own; callers see UNAVAILABLE."""
        for task in self._endless:
            task.cancel()

    async def settled(self, within_s: float) -> bool:
        """Waits until no call runs, also none that cleans up after its cancellation."""
        for _ in range(max(1, int(within_s / _TICK_S))):
            if not self.running:
                break
            await asyncio.sleep(_TICK_S)
        # grpc's own tasks around the calls end a turn of the loop later.
        await asyncio.sleep(_TICK_S)
        return not self.running

    def wrap(
        self, method: str, handler: Handler, access: Access, *, quiet: bool = False
    ) -> Handler:
        """Returns a handler for `/package.Service/Method` that serves the same behind the chain."""
        wrapped = _Wrapped(self, method, handler, access, quiet=quiet)
        return wrapped.handler()

    def begin(self, method: str, metadata: dict[str, Any]) -> Call:
        """Makes the call with these metadata the one that this task serves."""
        call = Call(
            method,
            request_id_from(metadata.get(REQUEST_ID_KEY)),
            continue_trace(metadata.get(TRACEPARENT_KEY)),
            self.draining,
            dialect=dialect_from(metadata.get(DIALECT_KEY)),
        )
        enter(call)
        self.running += 1
        return call

    async def admit(
        self, call: Call, metadata: dict[str, Any], access: Access, context: Context
    ) -> None:
        """Tells who calls, and turns away who may not, or not now."""
        if access.roles:
            call.principal = principal = await authenticated(
                self._authenticator, metadata, lambda: spiffe_id_of(context)
            )
            require(principal, *access.roles)
            if self._limits is not None:
                await self._limits.admit(call, metadata, lasting=not access.endless)

    def end(self, call: Call) -> None:
        """Notes that a call has ended, before its caller can know."""
        self.running -= 1
        if call.admission is not None:
            call.admission.end()

    def enlist(self) -> asyncio.Task[Any]:
        """Remembers this task as one to end when the server drains."""
        if self.draining.is_set():
            raise Unavailable(failures.DRAINING, retry_after_s=1.0)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._endless.add(task)
        return task

    def dismiss(self, task: asyncio.Task[Any]) -> None:
        """Forgets a task."""
        self._endless.discard(task)


class _Wrapped:
    """One method behind the chain."""

    def __init__(
        self,
        chain: Chain,
        method: str,
        handler: Handler,
        access: Access,
        *,
        quiet: bool,
    ) -> None:
        self._chain = chain
        self._method = method
        self._inner: Any = handler
        self._access = access
        self._quiet = quiet

    def handler(self) -> Handler:
        inner = self._inner
        # None leaves (de)serialising to the behaviour below.
        if not inner.response_streaming:
            if inner.request_streaming:
                return grpc.stream_unary_rpc_method_handler(
                    self._unary(inner.stream_unary, stream_in=True), None, None
                )
            return grpc.unary_unary_rpc_method_handler(
                self._unary(inner.unary_unary, stream_in=False), None, None
            )
        behaviour = inner.stream_stream if inner.request_streaming else inner.unary_stream
        # A behaviour that calls context.write itself needs the serialiser; for a generator, writing
        # is done here.
        serializer = None if isasyncgenfunction(behaviour) else inner.response_serializer
        if inner.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._stream(behaviour, stream_in=True), None, serializer
            )
        return grpc.unary_stream_rpc_method_handler(
            self._stream(behaviour, stream_in=False), None, serializer
        )

    def _unary(
        self, behaviour: Callable[[Any, Context], Awaitable[Any]], *, stream_in: bool
    ) -> Callable[[Any, Context], Awaitable[Any]]:
        """Wraps a behaviour with one response."""
        serialize = self._inner.response_serializer
        if not iscoroutinefunction(behaviour):
            raise TypeError(f"{self._method} must be an `async def` without `yield`.")

        async def unary(received: Any, context: Context) -> Any:
            metadata = dict(context.invocation_metadata())
            call = self._chain.begin(self._method, metadata)
            try:
                await self._admit(call, metadata, context, received if stream_in else None)
                request = self._streamed(received) if stream_in else self._parse(received)
                response = serialize(await behaviour(request, context))
                code = self._finish(call, context)
            except BaseException as error:
                await self._fail(error, call, context)
            finally:
                self._chain.end(call)
            access_log.record(call, code, quiet=self._quiet)
            return response

        return unary

    def _stream(
        self, behaviour: Callable[[Any, Context], Any], *, stream_in: bool
    ) -> Callable[[Any, Context], Awaitable[None]]:
        """Wraps a behaviour with many responses."""
        serialize = self._inner.response_serializer
        generates = isasyncgenfunction(behaviour)
        if not generates and not iscoroutinefunction(behaviour):
            raise TypeError(f"{self._method} must be an `async def`.")

        async def stream(received: Any, context: Context) -> None:
            metadata = dict(context.invocation_metadata())
            call = self._chain.begin(self._method, metadata)
            task: asyncio.Task[Any] | None = None
            try:
                await self._admit(call, metadata, context, received if stream_in else None)
                if self._access.endless:
                    task = self._chain.enlist()
                request = self._streamed(received) if stream_in else self._parse(received)
                if generates:
                    write = context.write
                    # Closed here and now, also on cancellation: that is how leaving reaches the
                    # engine.
                    async with aclosing(behaviour(request, context)) as messages:
                        async for message in messages:
                            await write(serialize(message))
                else:
                    await behaviour(request, context)
                code = self._finish(call, context)
            except BaseException as error:
                await self._fail(error, call, context)
            finally:
                self._chain.end(call)
                if task is not None:
                    self._chain.dismiss(task)
            access_log.record(call, code, quiet=self._quiet)

        return stream

    async def _admit(
        self,
        call: Call,
        metadata: dict[str, Any],
        context: Context,
        messages: AsyncIterator[Any] | None,
    ) -> None:
        try:
            await self._chain.admit(call, metadata, self._access, context)
        except DomainError:
            if messages is not None:
                await _discard(messages)
            raise

    def _parse(self, raw: bytes) -> Any:
        message = self._inner.request_deserializer(raw)
        validate(message)
        return message

    async def _streamed(self, messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        """Parses each message of a stream as it is read."""
        parse = self._inner.request_deserializer if self._access.validates_itself else self._parse
        async for raw in messages:
            yield parse(raw)

    def _finish(self, call: Call, context: Context) -> StatusCode:
        """Adds the request ID, and what the caller may still do, to what the behaviour sends at the
        end, and returns its code."""
        context.set_trailing_metadata(
            (*context.trailing_metadata(), *told(call), (REQUEST_ID_KEY, call.request_id))
        )
        code: StatusCode | None = context.code()
        return StatusCode.OK if code is None else code

    async def _fail(self, error: BaseException, call: Call, context: Context) -> NoReturn:
        """Answers an exception with its rich status; lets it pass where it is not for callers."""
        answer = failures.told(error, call, context, endless=self._access.endless)
        code = failures.passing_code(error, context) if answer is None else status_code(answer)
        access_log.record(call, code, quiet=self._quiet)
        if answer is None:
            raise error
        await failures.abort(answer, call, context)


async def _discard(messages: AsyncIterator[Any]) -> None:
    """Throws away what a caller who was turned away is sending: gRPC's client for asyncio takes a
    message that it can't send for the cause, and never tells the real one."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            async for _ in messages:
                pass
