"""What a failed call of Triton means for whoever asked."""

import logging
import re

import grpc

from services.errors import (
    Cancelled,
    DeadlineExceeded,
    DomainError,
    Internal,
    InvalidArgument,
    MessageTooLarge,
    QueueFull,
    Unavailable,
    Unsupported,
)

_log = logging.getLogger(__name__)
_RETRY_AFTER_S = 1.0
_RESTART_S = 3.0
"""About how long it takes until a model that was lost is there again."""


_TOLD = (
    (grpc.StatusCode.CANCELLED, re.compile(r"\bCANCELLED\b|was cancelled")),
    (grpc.StatusCode.DEADLINE_EXCEEDED, re.compile(r"\bDEADLINE_EXCEEDED\b|timeout expired", re.I)),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, re.compile(r"\bQUEUE_FULL\b|maximum queue size", re.I)),
    (grpc.StatusCode.NOT_FOUND, re.compile(r"unknown model|no available versions", re.I)),
    (grpc.StatusCode.UNAVAILABLE, re.compile(r"\bUNAVAILABLE\b|is unavailable")),
    (
        grpc.StatusCode.INVALID_ARGUMENT,
        re.compile(
            r"\bINVALID_ARGUMENT\b|\b(unexpected|expected|missing|duplicate)\b.*\binput"
            r"|inference input|required input"
        ),
    ),
)
"""What messages of failures mean. Models of this software begin them with the reason."""


class EndpointLost(Unavailable):
    """The endpoint, or the model on it, is gone; another endpoint may answer. Stays within this
    package: callers are told `told`."""

    def told(self) -> Unavailable:
        """What callers are told."""
        return Unavailable(self.message, retry_after_s=self.retry_after_s)


class StubDied(EndpointLost):
    """The process of a python model died. Triton calls the model ready all the same."""


def translate(error: grpc.RpcError, model: str) -> DomainError:
    """The domain's error for a failed call; Triton's own words go to the log."""
    code, details = _facts(error)
    domain = _translated(code, details, model)
    if not isinstance(domain, (Cancelled, DeadlineExceeded, QueueFull)):
        _log.warning("Triton failed a call of %s: %s: %s", model, code.name, details)
    return domain


def status_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """The error of a call that ended with a status."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


def told(message: str) -> grpc.aio.AioRpcError:
    """The error of a stream that tells of it by a message, which has no status.

    With the header `triton_grpc_error` the stream would end with one; but that has Triton 2.51 end,
    too, when it comes to several streams.
    """
    code = next((code for code, known in _TOLD if known.search(message)), grpc.StatusCode.INTERNAL)
    return status_error(code, message)


def first_line(text: str) -> str:
    """What is told of a reason that Triton gives: without its traceback."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
    return line.rstrip(";.:")[:400]


def words(error: BaseException | None) -> str:
    """What Triton itself said of a failure; empty where it said nothing."""
    while error is not None:
        if isinstance(error, grpc.aio.AioRpcError):
            return error.details() or ""
        error = error.__cause__
    return ""


def _facts(error: grpc.RpcError) -> tuple[grpc.StatusCode, str]:
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code(), error.details() or ""
    return grpc.StatusCode.UNKNOWN, repr(error)


def _translated(code: grpc.StatusCode, details: str, model: str) -> DomainError:
    told = details.lower()
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded("The deadline passed before the answer was complete.")
        case grpc.StatusCode.CANCELLED:
            return Cancelled("The request was cancelled.")
        case grpc.StatusCode.UNAVAILABLE if "queue size" in told:
            return QueueFull(
                "Too many requests wait for this model already: try again later.",
                retry_after_s=_RETRY_AFTER_S,
            )
        case grpc.StatusCode.UNAVAILABLE if "timeout expired" in told:
            return DeadlineExceeded("The deadline passed while the request waited in Triton.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in told:
            return MessageTooLarge("The request or its answer is larger than Triton accepts.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return QueueFull(
                "Triton has no room for the request: try again later.",
                retry_after_s=_RETRY_AFTER_S,
            )
        case grpc.StatusCode.INTERNAL if "stub process" in told:
            return StubDied(
                f"The process of the model `{model}` in Triton has died; it is started again. Try "
                f"again in a moment.",
                retry_after_s=_RESTART_S,
            )
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.NOT_FOUND:
            return EndpointLost(
                f"Triton is not there for the model `{model}` at the moment: try again.",
                retry_after_s=_RESTART_S,
            )
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidArgument(
                f"Triton's model `{model}` does not take this request; the server's log says why."
            )
        case grpc.StatusCode.UNIMPLEMENTED:
            return Unsupported(f"Triton's model `{model}` can't be called in this way.")
        case _:
            return Internal(f"Triton failed the request to the model `{model}`.")
