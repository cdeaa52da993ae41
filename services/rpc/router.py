"""Finds the handler of a method; nothing is served that was not declared."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from services.errors import Unsupported
from services.rpc.access import Access, access_of
from services.rpc.handlers import Chain, Handler
from services.rpc.health import HealthRegistry, HealthServicer

_Handlers = dict[str, Handler]
# Their generated code has no types.
_ADD_HEALTH = cast("Any", health_pb2_grpc).add_HealthServicer_to_server
_ADD_REFLECTION = cast("Any", reflection_pb2_grpc).add_ServerReflectionServicer_to_server
_OPEN = Access(frozenset())
_OPEN_ENDLESS = Access(frozenset(), endless=True)
_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
# The messages of v1 and v1alpha are the same on the wire; newer tools ask for v1 first.
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class UndeclaredMethodError(TypeError):
    """A method of a servicer does not say who may call it."""


@dataclass(frozen=True)
class Registration:
    """A servicer and the generated function that adds it to a server."""

    add: Callable[[Any, Any], None]
    """For example `add_ModelServiceServicer_to_server`."""
    servicer: object
    """Serves; each of its RPC methods bears `@requires` or `@open_method`."""
    ready: bool = True
    """Whether it is healthy from the start; else its own code says so through the
    `HealthRegistry`."""


class _Recorder:
    """Stands for a server towards generated code, and notes what is added to it."""

    def __init__(self) -> None:
        self.services: dict[str, _Handlers] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Called by generated code; the other call tells more."""

    def add_registered_method_handlers(self, service: str, handlers: _Handlers) -> None:
        """Called by generated code."""
        self.services[service] = handlers


def _record(add: Callable[[Any, Any], None], servicer: object) -> dict[str, _Handlers]:
    recorder = _Recorder()
    add(servicer, recorder)
    return recorder.services


class Router(grpc.GenericRpcHandler):
    """All handlers of a server, behind the chain. One look-up a call."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._handlers: _Handlers = {}
        self.services: list[str] = []
        """Names of all services."""

    def add(self, registration: Registration) -> list[str]:
        """Adds a servicer and returns its services. Raises `UndeclaredMethodError` unless each
        method is declared."""
        services = _record(registration.add, registration.servicer)
        for service, handlers in services.items():
            for name, handler in handlers.items():
                access = access_of(_behaviour(handler))
                if access is None:
                    raise UndeclaredMethodError(
                        f"{type(registration.servicer).__name__}.{name} must say who may call it: "
                        "@requires(Role.…) or @open_method."
                    )
                self._add(service, name, handler, access)
            self.services.append(service)
        return list(services)

    def add_health(self, registry: HealthRegistry) -> None:
        """Adds grpc.health.v1."""
        handlers = _record(_ADD_HEALTH, HealthServicer(registry))
        for name, handler in handlers[_HEALTH].items():
            # List is not ours: answered like any method that nobody serves.
            if name in ("Check", "Watch"):
                self._add(_HEALTH, name, handler, _OPEN, quiet=True)
        self.services.append(_HEALTH)

    def add_reflection(self) -> None:
        """Adds reflection over all services added so far."""
        names = [*self.services, _REFLECTION]
        handlers = _record(_ADD_REFLECTION, ReflectionServicer(names))
        for service in (_REFLECTION, _REFLECTION_V1):
            for name, handler in handlers[_REFLECTION].items():
                self._add(service, name, handler, _OPEN_ENDLESS, quiet=True)

    def _add(
        self,
        service: str,
        name: str,
        handler: Handler,
        access: Access,
        *,
        quiet: bool = False,
    ) -> None:
        method = f"/{service}/{name}"
        self._handlers[method] = self._chain.wrap(method, handler, access, quiet=quiet)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Returns the handler of a method; one that answers UNIMPLEMENTED where there is none."""
        handler = self._handlers.get(handler_call_details.method)
        return handler if handler is not None else self._missing(handler_call_details.method)

    def _missing(self, method: str) -> Handler:
        async def answer(requests: AsyncIterator[bytes], context: Any) -> None:
            raise Unsupported(f"This server has no method '{method}'.")

        handler: Handler = grpc.stream_stream_rpc_method_handler(answer, None, None)
        return self._chain.wrap(method, handler, _OPEN, served=False)


def _behaviour(handler: Any) -> Callable[..., Any]:
    """Returns the servicer's method behind a handler."""
    return (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
