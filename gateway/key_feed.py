"""Follows the keys that ModelService keeps."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import grpc
from penstock.access.v1 import key_service_pb2 as pb
from penstock.access.v1.key_service_pb2_grpc import KeyServiceStub

from gateway.errors import ProblemError, from_rpc_error
from policy.fed_keys import FedKeys
from policy.following import following


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
