# ruff: noqa: N818  (they read as what happened: `raise ModelNotFound`)
"""Errors of the domain. They know no transport: `services.rpc.errors` turns them into statuses.

    DomainError
    ├── the request is wrong
    │   ├── InvalidArgument          a field has a value that is not allowed
    │   ├── MissingField             a required field is missing
    │   ├── UnsupportedParameter     known, but this model or engine can't honour it
    │   ├── ContextLengthExceeded    prompt and output don't fit the model's context
    │   ├── MessageTooLarge          larger than the server accepts
    │   ├── OutOfRange               an offset lies beyond the end
    │   └── Unsupported              the method is not available on this server
    ├── the caller may not
    │   ├── MissingCredentials       no credentials came with the call
    │   ├── InvalidCredentials       unknown, revoked or expired
    │   └── PermissionDenied         the principal lacks the role
    ├── the resource is not as needed
    │   ├── ModelNotFound            no model or alias has this ID
    │   ├── NotFound                 the resource does not exist
    │   ├── AlreadyExists            a resource with this ID exists
    │   ├── Conflict                 it changed since it was read: the etag differs
    │   └── FailedPrecondition       its state does not allow the call
    ├── not now
    │   ├── ModelNotReady            known, but not serving yet
    │   ├── RateLimited              the principal's limit is used up
    │   ├── QueueFull                the bounded queue is full
    │   ├── SlowReader               the caller reads too slowly
    │   ├── StorageFull              no room left where the service keeps its data
    │   ├── Unavailable              a service that this one needs can't be reached
    │   ├── DeadlineExceeded         the deadline passed
    │   └── Cancelled                the caller cancelled
    └── Internal                     something failed that the caller can't mend

The groups are for reading: every class derives from `DomainError` itself and has one reason, the
name of a value of `penstock.errors.v1.ErrorReason` without its prefix.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple


class Violation(NamedTuple):
    """One field at fault."""

    field: str
    """Path of the field, such as `messages[0].content`."""
    description: str
    """What is wrong with it and what would be right."""


class DomainError(Exception):
    """Base of all errors that callers are told about.

    Messages are sent to callers: they say what to do next, and hold no paths, secrets or foreign
    error text.
    """

    reason: ClassVar[str]
    """Name of the `ErrorReason`, without its prefix."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
    ) -> None:
        """Takes the fault.

        `field` is the path of the field at fault; `retry_after_s` says when to try again;
        `metadata` holds further facts for machines. `violations` lists the fields at fault where
        they are several: the first gives `field`.
        """
        super().__init__(message)
        self.message = message
        if not violations and field is not None:
            violations = (Violation(field, message),)
        self.violations: tuple[Violation, ...] = tuple(violations)
        self.field: str | None = violations[0].field if violations else None
        self.retry_after_s = retry_after_s
        self.metadata: Mapping[str, str] = metadata or {}


class InvalidArgument(DomainError):
    """A field has a value that is not allowed."""

    reason = "INVALID_ARGUMENT"


class MissingField(DomainError):
    """A required field is missing."""

    reason = "MISSING_FIELD"


class UnsupportedParameter(DomainError):
    """The field is known, but this model or engine can't honour it."""

    reason = "UNSUPPORTED_PARAMETER"


class ContextLengthExceeded(DomainError):
    """Prompt and requested output don't fit the model's context."""

    reason = "CONTEXT_LENGTH_EXCEEDED"


class MessageTooLarge(DomainError):
    """The message is larger than the server accepts."""

    reason = "MESSAGE_TOO_LARGE"


class OutOfRange(DomainError):
    """An offset lies beyond the end of what it counts in."""

    reason = "OUT_OF_RANGE"


class Unsupported(DomainError):
    """The method is not available on this server."""

    reason = "UNIMPLEMENTED"


class MissingCredentials(DomainError):
    """No credentials came with the call."""

    reason = "MISSING_CREDENTIALS"


class InvalidCredentials(DomainError):
    """The credentials are unknown, revoked or expired."""

    reason = "INVALID_CREDENTIALS"


class PermissionDenied(DomainError):
    """The principal lacks the role that the method needs."""

    reason = "PERMISSION_DENIED"


class ModelNotFound(DomainError):
    """No model or alias has this ID."""

    reason = "MODEL_NOT_FOUND"


class NotFound(DomainError):
    """The resource does not exist."""

    reason = "NOT_FOUND"


class AlreadyExists(DomainError):
    """A resource with this ID exists already."""

    reason = "ALREADY_EXISTS"


class Conflict(DomainError):
    """The resource changed since the caller read it: the etag differs."""

    reason = "CONFLICT"


class FailedPrecondition(DomainError):
    """The resource's state does not allow the call."""

    reason = "FAILED_PRECONDITION"


class ModelNotReady(DomainError):
    """The model is known but not serving yet."""

    reason = "MODEL_NOT_READY"


class RateLimited(DomainError):
    """The principal's rate limit is used up."""

    reason = "RATE_LIMITED"


class QueueFull(DomainError):
    """The bounded queue is full."""

    reason = "QUEUE_FULL"


class SlowReader(DomainError):
    """The caller reads too slowly and its buffer stayed full."""

    reason = "SLOW_READER"


class StorageFull(DomainError):
    """There is no room left where the service keeps its data."""

    reason = "STORAGE_FULL"


class Unavailable(DomainError):
    """A service that this one needs can't be reached."""

    reason = "UNAVAILABLE"


class DeadlineExceeded(DomainError):
    """The deadline passed, in the queue or while running."""

    reason = "DEADLINE_EXCEEDED"


class Cancelled(DomainError):
    """The caller cancelled."""

    reason = "CANCELLED"


class Internal(DomainError):
    """Something failed that the caller can't mend; details are in the server's log."""

    reason = "INTERNAL"
