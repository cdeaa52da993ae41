"""Follows the keys that ModelService keeps."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import grpc
from penstock.access.v1 import key_service_pb2 as pb
from penstock.access.v1.key_service_pb2_grpc import KeyServiceStub

from policy.fed_keys import FedKeys
from policy.following import FollowSettings, following
from policy.token_store import TokenSources
from services.rpc.authentication import CallAuthenticator, Identities
from services.rpc.channels import ClientTls, channel
from services.rpc.errors import from_rpc_error

PATIENT = FollowSettings(first_s=10.0, insists=True)
"""A process that starts beside ModelService serves once it can tell keys; where ModelService stays
away, without."""


class FollowingAuthenticator(CallAuthenticator):
    """Knows the keys of ModelService too, and follows their changes while it is entered."""

    def __init__(
        self,
        sources: TokenSources,
        address: str,
        more: Identities | None = None,
        *,
        tls: ClientTls | None = None,
        settings: FollowSettings | None = None,
    ) -> None:
        """Takes where ModelService is; the service token goes with the calls."""
        self._keys = FedKeys()
        super().__init__(sources, self._keys, more)
        self._channel = lambda: channel(address, tls=tls, token=sources.service_token)
        self._settings = settings or PATIENT
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "FollowingAuthenticator":
        stub = KeyServiceStub(await self._stack.enter_async_context(self._channel()))
        await self._stack.enter_async_context(
            following(lambda: _watch(stub), self._keys, self._settings)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


async def _watch(stub: KeyServiceStub) -> AsyncGenerator[Any, None]:
    call = stub.WatchKeys(pb.WatchKeysRequest())
    try:
        async for event in call:
            yield event
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
    finally:
        call.cancel()
