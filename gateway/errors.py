"""Turns gRPC statuses into problems: one table. Dialects render problems in their envelopes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import grpc
from google.rpc import error_details_pb2, status_pb2

_DOMAIN = "penstock"
_DETAILS_KEY = "grpc-status-details-bin"
_LONGEST_WAIT_S = 60


class Kind(NamedTuple):
    """What HTTP says of a reason."""

    status: int
    retry: bool | None = None
    """What `x-should-retry` says; None leaves it to the client."""


KINDS: Mapping[str, Kind] = {
    "UNSPECIFIED": Kind(500),
    "INVALID_ARGUMENT": Kind(400),
    "MISSING_FIELD": Kind(400),
    "UNSUPPORTED_PARAMETER": Kind(400),
    "CONTEXT_LENGTH_EXCEEDED": Kind(400),
    "MISSING_CREDENTIALS": Kind(401),
    "INVALID_CREDENTIALS": Kind(401),
    "PERMISSION_DENIED": Kind(403),
    "MODEL_NOT_FOUND": Kind(404),
    "NOT_FOUND": Kind(404),
    # SDKs repeat a 409 by themselves; the same request can't succeed.
    "ALREADY_EXISTS": Kind(409, retry=False),
    "CONFLICT": Kind(409, retry=False),
    "FAILED_PRECONDITION": Kind(400),
    "MODEL_NOT_READY": Kind(503, retry=True),
    "RATE_LIMITED": Kind(429),
    "QUEUE_FULL": Kind(503, retry=True),
    "UNAVAILABLE": Kind(503),
    "DEADLINE_EXCEEDED": Kind(504),
    # The client is still here, so it was the other side that gave up.
    "CANCELLED": Kind(503),
    "UNIMPLEMENTED": Kind(501, retry=False),
    "INTERNAL": Kind(500),
    "SLOW_READER": Kind(503, retry=False),
    "MESSAGE_TOO_LARGE": Kind(413),
    "OUT_OF_RANGE": Kind(400),
    "STORAGE_FULL": Kind(507, retry=False),
    # The edge's own:
    "METHOD_NOT_ALLOWED": Kind(405),
    "UNKNOWN_URL": Kind(404),
    "BODY_TOO_LARGE": Kind(413),
    "BODY_TIMEOUT": Kind(408),
    "MALFORMED_BODY": Kind(400),
    "NOT_JSON": Kind(400),
    "UNKNOWN_SCRIPT": Kind(422),
}
"""Every reason of `penstock.errors.v1.ErrorReason`, without its prefix, and the edge's own."""

_FOREIGN: Mapping[int, tuple[str, str]] = {
    grpc.StatusCode.CANCELLED.value[0]: ("CANCELLED", "The call was cancelled. Try again."),
    grpc.StatusCode.INVALID_ARGUMENT.value[0]: ("INVALID_ARGUMENT", "The request is not valid."),
    grpc.StatusCode.OUT_OF_RANGE.value[0]: ("INVALID_ARGUMENT", "The request is not valid."),
    grpc.StatusCode.DEADLINE_EXCEEDED.value[0]: ("DEADLINE_EXCEEDED", "The request took too long."),
    grpc.StatusCode.NOT_FOUND.value[0]: ("NOT_FOUND", "There is no such thing."),
    grpc.StatusCode.ALREADY_EXISTS.value[0]: ("ALREADY_EXISTS", "It exists already."),
    grpc.StatusCode.PERMISSION_DENIED.value[0]: ("PERMISSION_DENIED", "This is not allowed."),
    grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]: ("QUEUE_FULL", "The service is overloaded."),
    grpc.StatusCode.FAILED_PRECONDITION.value[0]: ("FAILED_PRECONDITION", "Not possible now."),
    grpc.StatusCode.ABORTED.value[0]: ("CONFLICT", "Something else changed it meanwhile."),
    grpc.StatusCode.UNIMPLEMENTED.value[0]: ("UNIMPLEMENTED", "This server does not do that."),
    grpc.StatusCode.UNAVAILABLE.value[0]: (
        "UNAVAILABLE",
        "A service that this request needs can't be reached. Try again shortly.",
    ),
    grpc.StatusCode.UNAUTHENTICATED.value[0]: ("INVALID_CREDENTIALS", "The API key is not valid."),
}
"""What a status without our ErrorInfo stands for. Its own text may tell addresses."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request failed, in no dialect."""

    reason: str
    """A key of `KINDS`."""
    message: str
    """For people; says what to do."""
    param: str | None = None
    """Path of the field at fault."""
    code: str | None = None
    """A finer word than `reason`, for dialects that have one: `invalid_type`."""
    retry_after_s: float | None = None
    """When a repeat makes sense."""
    allow: str | None = None
    """Methods of the path, for METHOD_NOT_ALLOWED."""
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    """More of what the service told."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return KINDS[self.reason].status

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers that go with it in every dialect."""
        headers: list[tuple[bytes, bytes]] = []
        wait = self.retry_after_s
        if self.status in (429, 503):
            wait = min(max(wait if wait is not None else 1.0, 0.0), _LONGEST_WAIT_S)
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(wait))))
            headers.append((b"retry-after-ms", b"%d" % round(wait * 1000)))
        retry = KINDS[self.reason].retry
        if self.reason == "MODEL_NOT_READY" and self.retry_after_s is None:
            retry = False  # it failed to load: waiting doesn't help
        if self.reason == "RATE_LIMITED" and self._hopeless():
            retry = False
        if retry is not None:
            headers.append((b"x-should-retry", b"true" if retry else b"false"))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if self.allow is not None:
            headers.append((b"allow", self.allow.encode("latin-1")))
        return headers

    def _hopeless(self) -> bool:
        """Whether no repeat that a client makes by itself gets through a limit: the request asks
        for more than all of it, or it is a budget that is used up for longer."""
        asked, allowed = self.metadata.get("requested", ""), self.metadata.get("allowed", "")
        too_large = asked.isdigit() and allowed.isdigit() and int(asked) > int(allowed)
        return too_large or (self.retry_after_s or 0) > _LONGEST_WAIT_S


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class ClientGoneError(Exception):
    """The client left; there is nobody to answer."""


def invalid(
    message: str, param: str | None, code: str = "invalid_value", reason: str = "INVALID_ARGUMENT"
) -> ProblemError:
    """Makes the error for a field that is not as it should be."""
    return ProblemError(Problem(reason, message, param=param, code=code))


def unsupported(param: str, why: str) -> ProblemError:
    """Makes the error for a field that can't be honoured."""
    return invalid(
        f"Unsupported parameter: '{param}' is not supported here: {why}.",
        param,
        "unsupported_parameter",
        "UNSUPPORTED_PARAMETER",
    )


INTERNAL = Problem("INTERNAL", "internal error")
"""All that is told of what nobody foresaw."""


def from_status(status: status_pb2.Status) -> Problem:
    """Reads a rich status."""
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    reason: str | None = None
    param: str | None = None
    wait: float | None = None
    metadata: dict[str, str] = {}
    for detail in status.details:
        if detail.Unpack(info):
            if info.domain == _DOMAIN and info.reason in KINDS:
                reason = info.reason
                metadata = dict(info.metadata)
        elif detail.Unpack(bad):
            if bad.field_violations:
                param = bad.field_violations[0].field or None
        elif detail.Unpack(retry):
            wait = retry.retry_delay.ToNanoseconds() / 1e9
    message = status.message
    if reason is None:
        reason, message = _foreign(status.code, status.message)
    return Problem(
        reason,
        message or "internal error",
        param=metadata.get("param") or param,
        retry_after_s=wait,
        metadata=metadata,
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> Problem:
    """Reads what a failed call left."""
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return from_status(status_pb2.Status.FromString(value))
    reason, message = _foreign(error.code().value[0], error.details() or "")
    return Problem(reason, message)


def in_time(problem: Problem, timeout_s: float) -> Problem:
    """Says of a call that took too long how long that was, where nobody said more."""
    if problem.reason != "DEADLINE_EXCEEDED" or problem.metadata:
        return problem
    message = f"The request took longer than the {timeout_s:.3f} s that it had."
    return replace(problem, message=message, metadata={"timeout_s": f"{timeout_s:.3f}"})


def unavailable(message: str | None = None) -> Problem:
    """Makes the problem of a service that can't be reached."""
    reason, text = _FOREIGN[grpc.StatusCode.UNAVAILABLE.value[0]]
    return Problem(reason, message or text)


def _foreign(code: int, message: str) -> tuple[str, str]:
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0] and "larger than max" in message:
        return "MESSAGE_TOO_LARGE", "The request or its answer is too large."
    return _FOREIGN.get(code, ("INTERNAL", "internal error"))
