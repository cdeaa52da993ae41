"""Turns domain errors into statuses, and statuses of other services back into domain errors: one
table."""

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import StatusCode

from services import errors
from services.errors import DomainError, Internal, Violation

DOMAIN = "penstock"
"""`ErrorInfo.domain` of every error."""

DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata that carries the rich status."""

STATUS_CODES: dict[type[DomainError], StatusCode] = {
    errors.InvalidArgument: StatusCode.INVALID_ARGUMENT,
    errors.MissingField: StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedParameter: StatusCode.INVALID_ARGUMENT,
    errors.ContextLengthExceeded: StatusCode.OUT_OF_RANGE,
    errors.MessageTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.OutOfRange: StatusCode.OUT_OF_RANGE,
    errors.Unsupported: StatusCode.UNIMPLEMENTED,
    errors.MissingCredentials: StatusCode.UNAUTHENTICATED,
    errors.InvalidCredentials: StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: StatusCode.PERMISSION_DENIED,
    errors.ModelNotFound: StatusCode.NOT_FOUND,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.AlreadyExists: StatusCode.ALREADY_EXISTS,
    errors.Conflict: StatusCode.ABORTED,
    errors.FailedPrecondition: StatusCode.FAILED_PRECONDITION,
    errors.ModelNotReady: StatusCode.UNAVAILABLE,
    errors.RateLimited: StatusCode.RESOURCE_EXHAUSTED,
    errors.QueueFull: StatusCode.RESOURCE_EXHAUSTED,
    errors.SlowReader: StatusCode.RESOURCE_EXHAUSTED,
    errors.StorageFull: StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: StatusCode.CANCELLED,
    errors.Internal: StatusCode.INTERNAL,
}
"""The status code of each domain error."""

DEFAULT_RETRY_AFTER_S: dict[type[DomainError], float] = {
    errors.ModelNotReady: 2.0,
    errors.RateLimited: 1.0,
    errors.QueueFull: 1.0,
}
"""Waits told for errors that always carry RetryInfo and whose raiser knew none."""

HIDDEN = "internal error"
"""All that callers learn of an exception that nobody expected."""

_CLASSES = {cls.reason: cls for cls in STATUS_CODES}
_CODES: dict[int, StatusCode] = {code.value[0]: code for code in StatusCode}

_AWAY = (StatusCode.UNAVAILABLE, StatusCode.CANCELLED, StatusCode.UNKNOWN)

# What a status without our ErrorInfo stands for: one from a proxy, from grpc itself or from a
# foreign server.
_FOREIGN: dict[StatusCode, type[DomainError]] = {
    StatusCode.UNAVAILABLE: errors.Unavailable,
    StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    StatusCode.CANCELLED: errors.Cancelled,
    StatusCode.UNIMPLEMENTED: errors.Unsupported,
    StatusCode.RESOURCE_EXHAUSTED: errors.QueueFull,
    StatusCode.UNAUTHENTICATED: errors.InvalidCredentials,
    StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    StatusCode.NOT_FOUND: errors.NotFound,
    StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    StatusCode.ABORTED: errors.Conflict,
    StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    StatusCode.OUT_OF_RANGE: errors.InvalidArgument,
}


def status_code(error: BaseException) -> StatusCode:
    """Returns the code that callers see for an exception."""
    return next(
        (STATUS_CODES[cls] for cls in type(error).__mro__ if cls in STATUS_CODES),
        StatusCode.INTERNAL,
    )


def to_status(error: BaseException) -> status_pb2.Status:
    """Returns the rich status for an exception; INTERNAL with nothing told for one that is no
    domain error."""
    if not isinstance(error, DomainError):
        error = Internal(HIDDEN)
    status = status_pb2.Status(
        code=code_pb2.Code.Value(status_code(error).name), message=error.message
    )
    for detail in _details(error):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _details(error: DomainError) -> Iterator[Any]:
    metadata = dict(error.metadata)
    if error.field is not None:
        metadata.setdefault("param", error.field)
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    if error.violations:
        yield error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(
                    field=violation.field, description=violation.description
                )
                for violation in error.violations
            ]
        )
    retry_after_s = error.retry_after_s
    if retry_after_s is None:
        retry_after_s = DEFAULT_RETRY_AFTER_S.get(type(error))
    if retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(max(0, round(retry_after_s * 1e9)))
        yield error_details_pb2.RetryInfo(retry_delay=delay)


def from_status(status: status_pb2.Status) -> DomainError:
    """Returns the domain error that a rich status tells of; the reverse of `to_status`."""
    code = _CODES.get(status.code, StatusCode.UNKNOWN)
    cls: type[DomainError] = _FOREIGN.get(code, Internal)
    metadata: dict[str, str] = {}
    violations: list[Violation] = []
    retry_after_s: float | None = None
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    # Unpack tells whether the detail is of the type, and fills it.
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            cls = _CLASSES.get(info.reason, cls)
            metadata = dict(info.metadata)
        elif detail.Unpack(bad_request):
            violations = [Violation(v.field, v.description) for v in bad_request.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return cls(
        status.message,
        field=metadata.get("param"),
        retry_after_s=retry_after_s,
        metadata=metadata,
        violations=violations,
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> DomainError:
    """Returns the domain error that a failed call to another service stands for."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return from_status(status_pb2.Status.FromString(value))
    code, message = error.code(), error.details() or error.code().name
    if code is StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:
        return errors.MessageTooLarge("The message is larger than the server accepts.")
    return _FOREIGN.get(code, Internal)(message)


def from_peer_error(service: str, error: grpc.aio.AioRpcError) -> DomainError:
    """Returns the domain error of a call to a named service: the service's own as it is, of the
    transport's one in our words.

    A call that the caller cancelled ends otherwise: CANCELLED here is a service that stops.
    """
    rich = any(key == DETAILS_KEY for key, _ in error.trailing_metadata() or ())
    return away(service) if error.code() in _AWAY and not rich else from_rpc_error(error)


def away(service: str) -> errors.Unavailable:
    """Makes the error for a service that doesn't answer."""
    return errors.Unavailable(
        f"{service} can't be reached, or stopped during the call. Try again; see whether it runs "
        "if that doesn't help.",
        retry_after_s=1.0,
    )
