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

from policy.workloads import Peers
from services.errors import DomainError, PermissionDenied, Unavailable
from services.rpc import failures
from services.rpc.access import Access, require
from services.rpc.authentication import Authenticator, authenticated
from services.rpc.call import Call, enter, opened
from services.rpc.endings import UNKNOWN_METHOD, ended
from services.rpc.errors import status_code
from services.rpc.limits import CallLimits, told
from services.rpc.metadata import REQUEST_ID_KEY, Context, spiffe_id_of
from services.rpc.validation import validate

_TICK_S = 0.01
_DISCARD_S = 0.25

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:  # generic for type checkers only
    Handler = grpc.RpcMethodHandler


class Chain:
    """Wraps handlers with what every call passes through."""

    def __init__(
        self,
        authenticator: Authenticator,
        limits: CallLimits | None = None,
        peers: Peers | None = None,
    ) -> None:
        """Takes who tells callers apart, what limits them, and whose certificates they must have.
        None: nothing does, and anybody's."""
        self._authenticator = authenticator
        self._limits = limits
        self._peers = peers or None
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
        self,
        method: str,
        handler: Handler,
        access: Access,
        *,
        quiet: bool = False,
        served: bool = True,
    ) -> Handler:
        """Returns a handler for `/package.Service/Method` that serves the same behind the chain;
        not `served` is the one for methods that there are none of."""
        return _Wrapped(self, method, handler, access, quiet=quiet, served=served).handler()

    def begin(self, method: str, metadata: dict[str, Any], *, recorded: bool = True) -> Call:
        """Makes the call with these metadata the one that this task serves. Not `recorded`, it has
        its place in a trace, which nobody sees."""
        call = opened(method, metadata, self.draining, recorded=recorded)
        enter(call)
        self.running += 1
        return call

    async def admit(
        self, call: Call, metadata: dict[str, Any], access: Access, context: Context
    ) -> None:
        """Tells who calls, and turns away who may not, or not now."""
        if self._peers is not None and not self._peers.admit(spiffe_id_of(context)):
            raise PermissionDenied(
                "The connection's certificate is not that of somebody who may call this service. "
                "Operators name who may in `[tls] peers`."
            )
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
        served: bool,
    ) -> None:
        self._chain = chain
        self._method = method
        self._inner: Any = handler
        self._access = access
        self._quiet = quiet
        self._label = "" if served else UNKNOWN_METHOD
        # The streams that last as long as a process tell nothing in a trace.
        self._recorded = served and not (quiet or access.endless)

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
            call = self._begin(metadata)
            try:
                await self._admit(call, metadata, context, received if stream_in else None)
                request = self._streamed(received) if stream_in else self._parse(received)
                response = serialize(await behaviour(request, context))
                code = self._finish(call, context)
            except BaseException as error:
                await self._fail(error, call, context)
            finally:
                self._chain.end(call)
            ended(call, code, quiet=self._quiet)
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
            call = self._begin(metadata)
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
            ended(call, code, quiet=self._quiet)

        return stream

    def _begin(self, metadata: dict[str, Any]) -> Call:
        call = self._chain.begin(self._method, metadata, recorded=self._recorded)
        call.label = self._label
        return call

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
        ended(call, code, quiet=self._quiet, error=answer)
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
