"""Answers calls that end in an exception."""

import asyncio
import logging
from typing import NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc import StatusCode

from services.errors import (
    DeadlineExceeded,
    DomainError,
    Internal,
    InvalidArgument,
    Unavailable,
)
from services.rpc import limits
from services.rpc.call import Call
from services.rpc.errors import DETAILS_KEY, HIDDEN, from_rpc_error, status_code, to_status
from services.rpc.metadata import REQUEST_ID_KEY, Context

_logger = logging.getLogger(__name__)

DRAINING = "The server is shutting down. Call again."
"""Told to callers whose stream a drain ends."""

_ALMOST_NOW_S = 0.01


def told(
    error: BaseException, call: Call, context: Context, *, endless: bool
) -> DomainError | None:
    """Returns what callers are told of an exception; None where it is not for them and must pass.

    An exception that nobody expected is logged whole, and callers learn nothing of it.
    """
    match error:
        case DomainError():
            return error
        case ExceptionGroup(exceptions=(only,)):
            # A task group wraps what its one failing task raised.
            return told(only, call, context, endless=endless)
        case asyncio.CancelledError() if endless and call.draining.is_set():
            return Unavailable(DRAINING, retry_after_s=1.0)
        case grpc.aio.BaseError():
            return None  # aborted by the method itself, or the transport is gone
        case DecodeError():
            return InvalidArgument("The request is not the message that this method takes.")
        case grpc.aio.AioRpcError() if error.code() is StatusCode.UNAVAILABLE:
            # Of another service's troubles, callers learn those that call for patience; the
            # others are ours.
            return from_rpc_error(error)
        case TimeoutError() | grpc.aio.AioRpcError() if _deadline_passed(context):
            return DeadlineExceeded("The deadline passed before the answer was ready.")
        case Exception():
            _logger.exception("%s failed", call.method, exc_info=error)
            return Internal(HIDDEN)
        case _:
            return None


def passing_code(error: BaseException, context: Context) -> StatusCode:
    """Returns the code that a call ends with when an exception passes."""
    if isinstance(error, asyncio.CancelledError):
        passed = _deadline_passed(context)
        return StatusCode.DEADLINE_EXCEEDED if passed else StatusCode.CANCELLED
    code: StatusCode | None = context.code()
    return StatusCode.UNKNOWN if code is None else code


async def abort(error: DomainError, call: Call, context: Context) -> NoReturn:
    """Ends the call with the error's rich status and the request ID."""
    status = to_status(error)
    await context.abort(
        status_code(error),
        status.message,
        (
            *context.trailing_metadata(),
            *limits.told(call),
            (DETAILS_KEY, status.SerializeToString()),
            (REQUEST_ID_KEY, call.request_id),
        ),
    )
    raise AssertionError("abort returned")


def _deadline_passed(context: Context) -> bool:
    remaining: float | None = context.time_remaining()
    return remaining is not None and remaining <= _ALMOST_NOW_S
