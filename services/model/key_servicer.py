"""KeyService over gRPC: translates."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.empty_pb2 import Empty
from penstock.access.v1 import key_pb2 as pb
from penstock.access.v1 import key_service_pb2 as service_pb
from penstock.access.v1.key_service_pb2_grpc import KeyServiceServicer

from policy.principals import Limits
from services.errors import Unavailable
from services.model import key_convert as convert
from services.model.key_feed import KeyFeed
from services.model.keys import Keys
from services.model.watches import HEARTBEAT_S
from services.rpc.access import Role, draining, principal, requires

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
else:  # generic for type checkers only
    Context = grpc.aio.ServicerContext


class KeyServicer(KeyServiceServicer):
    """Serves `penstock.access.v1.KeyService`."""

    def __init__(
        self,
        keys: Keys,
        feed: KeyFeed,
        *,
        defaults: Limits,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        """Takes the keys, the feed of their changes, and the limits of those that have none."""
        self._keys = keys
        self._feed = feed
        self._defaults = defaults
        self._heartbeat_s = heartbeat_s

    @requires(Role.ADMIN)
    async def CreateKey(self, request: service_pb.CreateKeyRequest, context: Context) -> pb.Key:
        """Makes a key."""
        key, secret = await self._keys.create(
            convert.values(request.key), request.key.gel_user, principal()
        )
        return convert.key_proto(key, secret=secret)

    @requires(Role.ADMIN)
    async def GetKey(self, request: service_pb.GetKeyRequest, context: Context) -> pb.Key:
        """Gets a key."""
        return convert.key_proto(await self._keys.get(convert.parse_name(request.name)))

    @requires(Role.ADMIN)
    async def ListKeys(
        self, request: service_pb.ListKeysRequest, context: Context
    ) -> service_pb.ListKeysResponse:
        """Lists keys, newest first."""
        page = await self._keys.page(page_size=request.page_size, page_token=request.page_token)
        return service_pb.ListKeysResponse(
            keys=[convert.key_proto(key) for key in page.items],
            next_page_token=page.next_page_token,
        )

    @requires(Role.ADMIN)
    async def UpdateKey(self, request: service_pb.UpdateKeyRequest, context: Context) -> pb.Key:
        """Changes a key."""
        key = await self._keys.update(
            convert.parse_name(request.key.name, "key.name"),
            convert.changes(request),
            principal(),
            etag=request.key.etag,
        )
        return convert.key_proto(key)

    @requires(Role.ADMIN)
    async def DeleteKey(self, request: service_pb.DeleteKeyRequest, context: Context) -> Empty:
        """Revokes a key."""
        await self._keys.delete(convert.parse_name(request.name), principal())
        return Empty()

    @requires(Role.USER)
    async def GetCaller(
        self, request: service_pb.GetCallerRequest, context: Context
    ) -> service_pb.Caller:
        """Tells who calls."""
        return convert.caller_proto(principal(), self._defaults)

    @requires(Role.SERVICE)
    async def WatchKeys(
        self, request: service_pb.WatchKeysRequest, context: Context
    ) -> AsyncGenerator[service_pb.WatchKeysEvent, None]:
        """Streams the keys."""
        events = self._feed.watch(end=draining(), heartbeat_s=self._heartbeat_s)
        async with aclosing(events):
            async for event in events:
                yield convert.event_proto(event, heartbeat_s=self._heartbeat_s)
        raise Unavailable("The server is shutting down. Watch again.", retry_after_s=1)
