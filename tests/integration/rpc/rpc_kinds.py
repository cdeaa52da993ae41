# ruff: noqa: N802  (methods are named as protos name them)
"""A service for tests with all four kinds of method, over messages that the protos have anyway."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
from penstock.model.v1 import model_pb2
from penstock.model.v1 import model_service_pb2 as pb

from services.rpc.access import (
    Principal,
    Role,
    draining,
    endless,
    open_method,
    principal,
    request_id,
    requires,
)
from services.rpc.authentication import CallAuthenticator
from services.rpc.server import Registration

SERVICE = "test.v1.KindsService"
PATH = f"/{SERVICE}"


class Kinds:
    """Echoes names; what a name means to a test is in `hook`."""

    def __init__(self) -> None:
        self.closed = 0
        self.entered = asyncio.Event()
        self.release = asyncio.Event()

    async def hook(self, name: str, context: Any) -> None:
        """Replaced by tests."""

    @requires(Role.USER)
    async def One(self, request: Any, context: Any) -> Any:
        self.entered.set()
        await self.hook(request.name, context)
        return model_pb2.Model(name=request.name, display_name=principal().id, uid=request_id())

    @requires(Role.USER)
    async def Many(self, request: Any, context: Any) -> AsyncGenerator[Any, None]:
        try:
            for number in range(3):
                yield model_pb2.Model(name=f"{request.name}/{number}")
                self.entered.set()
                if number == 1:
                    await self.hook(request.name, context)
        finally:
            self.closed += 1

    @requires(Role.USER)
    async def Written(self, request: Any, context: Any) -> None:
        for number in range(3):
            await context.write(model_pb2.Model(name=f"{request.name}/{number}"))
        await self.hook(request.name, context)

    @requires(Role.USER)
    async def Collect(self, requests: AsyncIterator[Any], context: Any) -> Any:
        names = [request.name async for request in requests]
        return model_pb2.Model(name=",".join(names))

    @requires(Role.USER)
    async def Both(self, requests: AsyncIterator[Any], context: Any) -> AsyncGenerator[Any, None]:
        async for request in requests:
            yield model_pb2.Model(name=request.name)

    @requires(Role.ADMIN, Role.SERVICE)
    async def Manage(self, request: Any, context: Any) -> Any:
        return model_pb2.Model(name=request.name)

    @open_method
    async def Open(self, request: Any, context: Any) -> Any:
        return model_pb2.Model(name=request.name)

    @requires(Role.USER)
    @endless
    async def Watch(self, request: Any, context: Any) -> AsyncGenerator[Any, None]:
        yield model_pb2.Model(name=request.name)
        self.entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.closed += 1

    @requires(Role.USER)
    async def UntilDrain(self, request: Any, context: Any) -> AsyncGenerator[Any, None]:
        yield model_pb2.Model(name="first")
        await draining().wait()
        yield model_pb2.Model(name="last")


def add_kinds(servicer: Any, server: Any) -> None:
    """Does what generated code does."""
    parse, write = pb.GetModelRequest.FromString, model_pb2.Model.SerializeToString
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers = {
        name: make(getattr(servicer, name), request_deserializer=parse, response_serializer=write)
        for name, make in {
            "One": unary,
            "Many": stream,
            "Written": stream,
            "Collect": grpc.stream_unary_rpc_method_handler,
            "Both": grpc.stream_stream_rpc_method_handler,
            "Manage": unary,
            "Open": unary,
            "Watch": stream,
            "UntilDrain": stream,
        }.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


def registration(servicer: Kinds, *, ready: bool = True) -> Registration:
    return Registration(add_kinds, servicer, ready=ready)


class KindsStub:
    """Does what a generated stub does."""

    def __init__(self, channel: Any) -> None:
        unary, stream = channel.unary_unary, channel.unary_stream
        for name, make in {
            "One": unary,
            "Many": stream,
            "Written": stream,
            "Collect": channel.stream_unary,
            "Both": channel.stream_stream,
            "Manage": unary,
            "Open": unary,
            "Watch": stream,
            "UntilDrain": stream,
            "Nothing": unary,
        }.items():
            call = make(
                f"{PATH}/{name}",
                request_serializer=lambda m: m if isinstance(m, bytes) else m.SerializeToString(),
                response_deserializer=model_pb2.Model.FromString,
            )
            setattr(self, name, call)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def named(name: str) -> pb.GetModelRequest:
    return pb.GetModelRequest(name=name)


class Tokens(CallAuthenticator):
    """A token of each role, named like it."""

    def authenticate(self, metadata, *certificate):
        pairs = dict(metadata)
        header = str(pairs.get("authorization", ""))
        role = header.removeprefix("Bearer ")
        if role in set(Role):
            return Principal(f"id-{role}", role, frozenset({Role(role)}))
        return super().authenticate(pairs, *certificate)


def bearer(role: Role = Role.USER) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {role.value}"),)


USER = bearer()
