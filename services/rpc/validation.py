"""Checks messages against the rules written in the protos."""

from collections.abc import Sequence
from typing import Any

import protovalidate
from google.api import field_behavior_pb2
from google.protobuf.message import Message

from services.errors import InvalidArgument, MissingField
from services.errors import Violation as FieldViolation

_FIELD_BEHAVIOR: Any = field_behavior_pb2.field_behavior
_MOST_SHOWN = 16
_validator = protovalidate.Validator()


def validate(message: Message) -> None:
    """Raises `MissingField` or `InvalidArgument`, with all fields at fault, unless the message
    keeps its rules."""
    found = _validator.collect_violations(message)
    if found:
        raise _error(message.DESCRIPTOR, found)


def _error(descriptor: Any, found: Sequence[Any]) -> MissingField | InvalidArgument:
    missing: list[FieldViolation] = []
    invalid: list[FieldViolation] = []
    for violation in found[:_MOST_SHOWN]:
        proto = violation.proto
        path = _path(proto.field)
        if _is_missing(descriptor, violation):
            missing.append(FieldViolation(path, "This field is required."))
        else:
            invalid.append(FieldViolation(path, _sentence(proto.message or proto.rule_id)))
    # The first field decides the reason, and a missing field goes before a wrong one: it is the
    # simpler story.
    first = (missing or invalid)[0]
    name = f"'{first.field}': " if first.field else ""
    cls = MissingField if missing else InvalidArgument
    return cls(f"{name}{first.description}", violations=[*missing, *invalid])


def _is_missing(descriptor: Any, violation: Any) -> bool:
    proto = violation.proto
    if proto.rule_id == "required":
        return True
    if violation.field_value:
        return False
    # An enum that may not be 0 may not be left out.
    return proto.rule_id == "enum.not_in" or _is_required(descriptor, proto.field)


def _path(field: Any) -> str:
    """Spells a path as callers write it: `messages[0].content`, `logit_bias["7"]`."""
    text = ""
    for element in field.elements if field is not None else ():
        text += f".{element.field_name}" if text else str(element.field_name)
        subscript = element.subscript
        if subscript is not None:
            value = subscript.value
            text += f'["{value[:64]}"]' if isinstance(value, str) else f"[{value}]"
    return text


def _is_required(descriptor: Any, field: Any) -> bool:
    """Tells whether the proto marks the field REQUIRED (google.api.field_behavior)."""
    elements: list[Any] = list(field.elements) if field is not None else []
    found: Any = None
    for element in elements:
        found = descriptor.fields_by_name.get(element.field_name)
        if found is None:
            return False
        if found.message_type is not None:
            descriptor = found.message_type
    # An empty item of a required list is not a missing list.
    if found is None or elements[-1].subscript is not None:
        return False
    behaviors: list[int] = found.GetOptions().Extensions[_FIELD_BEHAVIOR]
    return field_behavior_pb2.REQUIRED in behaviors


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
