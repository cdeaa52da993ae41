"""Follows the keys that ModelService keeps."""

import time
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import grpc
from penstock.access.v1 import key_service_pb2 as pb
from penstock.access.v1.key_service_pb2_grpc import KeyServiceStub

from gateway.errors import ProblemError, from_rpc_error
from policy.fed_keys import FedKeys
from policy.following import following

_PATIENCE_S = 10.0


class KeyWait:
    """Tells whether an edge that starts is to be spared calls till it can tell keys: some seconds
    at most, since it can do much without."""

    def __init__(self, keys: FedKeys | None) -> None:
        self._keys = keys
        self._until = time.monotonic() + _PATIENCE_S

    @property
    def over(self) -> bool:
        """Whether calls may come."""
        return self._keys is None or self._keys.known or time.monotonic() >= self._until


def following_keys(
    keys: FedKeys | None, stub: KeyServiceStub, service_token: str
) -> AbstractAsyncContextManager[None]:
    """Keeps keys as ModelService tells them, while a block runs; None: there are none to keep."""
    if keys is None:
        return nullcontext()
    return following(lambda: _watch(stub, service_token), keys)


async def _watch(stub: KeyServiceStub, service_token: str) -> AsyncGenerator[Any, None]:
    metadata = grpc.aio.Metadata(("authorization", f"Bearer {service_token}"))
    call = stub.WatchKeys(pb.WatchKeysRequest(), metadata=metadata)
    try:
        async for event in call:
            yield event
    except grpc.aio.AioRpcError as error:
        raise ProblemError(from_rpc_error(error)) from None
    finally:
        call.cancel()
