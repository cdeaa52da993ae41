"""What callers read from an error of a service."""

from collections.abc import Awaitable
from typing import TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

T = TypeVar("T")


def reason(error: grpc.aio.AioRpcError | status_pb2.Status) -> tuple[str, str]:
    """Reason and field of an error."""
    if isinstance(error, grpc.aio.AioRpcError):
        trailing = dict(error.trailing_metadata() or ())
        error = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in error.details)
    return info.reason, info.metadata.get("param", "")


async def outcome(answer: Awaitable[T]) -> T | str:
    """The answer, or the reason for which there is none."""
    try:
        return await answer
    except grpc.aio.AioRpcError as error:
        return reason(error)[0]
