"""Errors of other services, told in the words of this one's requests."""

import copy
from collections.abc import Callable
from typing import TypeVar

from services.errors import DomainError, FailedPrecondition, Violation

Fault = TypeVar("Fault", bound=DomainError)


def renamed(error: Fault, rename: Callable[[str], str]) -> Fault:
    """Returns the error with the paths of its fields changed, and all else as it was."""
    if error.field is None:
        return error
    told = copy.copy(error)
    told.violations = tuple(
        Violation(rename(violation.field), violation.description) for violation in error.violations
    )
    told.field = rename(error.field)
    told.metadata = {**error.metadata, "param": told.field}
    return told


def at(error: Fault, field: str) -> Fault:
    """Returns the error as one of this field."""
    if error.field is not None:
        return renamed(error, lambda _: field)
    told = copy.copy(error)
    told.field = field
    told.violations = (Violation(field, error.message),)
    told.metadata = {**error.metadata, "param": field}
    return told


def reworded(error: Fault, message: str) -> Fault:
    """Returns the error with another message."""
    told = copy.copy(error)
    told.message = message
    return told


def of_collection(error: DomainError, field: str) -> DomainError:
    """Returns an error of embedding with a collection's model as one of the collection."""
    if error.field == "dimensions":
        return FailedPrecondition(
            "The collection's model no longer makes vectors of the collection's length. Make a new "
            "collection.",
            field=field,
        )
    return error if error.field is None else at(error, field)
