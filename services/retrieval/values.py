"""Values of properties: what a declared type takes, and how it is kept."""

import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from services.errors import InvalidArgument, MissingField
from services.retrieval.records import (
    AllOf,
    AnyOf,
    Comparison,
    Filter,
    Json,
    Not,
    PropertySchema,
    PropertyType,
)

_DIGITS = re.compile(r"-?[0-9]{1,19}")
_EXACT = 2**53
_INT64 = range(-(2**63), 2**63)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
MOST_PROPERTY_BYTES = 1024 * 1024
"""Most bytes of a document's properties, as texts of JSON roughly are."""

_WANTED = {
    PropertyType.STRING: "a text",
    PropertyType.INT64: "a whole number of 64 bits; beyond 2^53 as its digits in a string",
    PropertyType.FLOAT64: "a number",
    PropertyType.BOOL: "true or false",
    PropertyType.UUID: "a UUID, as a string",
    PropertyType.DATETIME: "an instant like 2026-01-31T09:30:00Z, as a string",
    PropertyType.STRING_LIST: "a list of texts",
    PropertyType.JSON: "anything",
}


def check_text(text: str, field: str) -> str:
    """Returns the text, or raises `InvalidArgument` where databases can't keep it."""
    if "\0" in text:
        raise InvalidArgument(f"'{field}': must not hold the character NUL.", field=field)
    return text


def check_properties(
    properties: Mapping[str, Json], declared: Sequence[PropertySchema], field: str
) -> Mapping[str, Json]:
    """Returns a document's properties as they are kept.

    Raises:
        MissingField: a required one is missing.
        InvalidArgument: one has a value that its declared type doesn't take.
    """
    types = {schema.name: schema for schema in declared}
    kept: dict[str, Json] = {}
    size = 0
    for name, value in properties.items():
        path = f"{field}.{name[:64]}"
        check_text(name, field)
        size += len(name) + check_json(value, path)
        if size > MOST_PROPERTY_BYTES:
            raise InvalidArgument(
                f"'{field}': all properties together have at most {MOST_PROPERTY_BYTES} bytes.",
                field=field,
            )
        schema = types.get(name)
        if value is None and schema is not None and schema.type is not PropertyType.JSON:
            continue  # as if it were not there
        kept[name] = value if schema is None else as_type(value, schema.type, path)
    for schema in declared:
        if schema.required and schema.name not in kept:
            path = f"{field}.{schema.name}"
            raise MissingField(f"'{path}': the collection requires this property.", field=path)
    return kept


def check_json(value: Json, field: str) -> int:
    """Returns about how many bytes a value has. Raises `InvalidArgument` where JSON can't say it
    or databases can't keep it."""
    if isinstance(value, str):
        return len(check_text(value, field).encode())
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgument(f"'{field}': numbers must be finite.", field=field)
    if isinstance(value, Mapping):
        return sum(
            len(check_text(name, field)) + check_json(item, field) for name, item in value.items()
        )
    if isinstance(value, Sequence):
        return sum(check_json(item, field) for item in value)
    return 8


def as_type(value: Json, kind: PropertyType, field: str) -> Json:
    """Returns a value as its type keeps it: whole numbers as such, UUIDs in lower case, instants
    in UTC with six places, so that they are in order as texts are."""
    kept = _as_type(value, kind)
    if kept is None and kind is not PropertyType.JSON:
        raise InvalidArgument(f"'{field}': must be {_WANTED[kind]}.", field=field)
    return kept


def _as_type(value: Json, kind: PropertyType) -> Json:
    match kind:
        case PropertyType.STRING:
            return value if isinstance(value, str) else None
        case PropertyType.INT64:
            return _whole(value)
        case PropertyType.FLOAT64:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            return float(value)
        case PropertyType.BOOL:
            return value if isinstance(value, bool) else None
        case PropertyType.UUID:
            return _uuid(value)
        case PropertyType.DATETIME:
            return _instant(value)
        case PropertyType.STRING_LIST:
            if isinstance(value, str) or not isinstance(value, Sequence):
                return None
            return value if all(isinstance(item, str) for item in value) else None
        case PropertyType.JSON:
            return value


def _whole(value: Json) -> int | None:
    if isinstance(value, str):
        number = int(value) if _DIGITS.fullmatch(value) else None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        number = None
    elif isinstance(value, float):
        # Beyond, a number of JSON doesn't say which whole number was meant.
        exact = value.is_integer() and abs(value) <= _EXACT
        number = int(value) if exact else None
    else:
        number = value
    return number if number is not None and number in _INT64 else None


def _uuid(value: Json) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return None


def _instant(value: Json) -> str | None:
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        return None
    try:
        instant = datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return instant.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def as_kept(filter: Filter, declared: Sequence[PropertySchema]) -> Filter:
    """Returns a filter with its values as properties are kept. What a declared type doesn't take
    stays as it is: the store refuses it."""
    return _as_kept(filter, {schema.name: schema.type for schema in declared})


def _as_kept(filter: Filter, types: Mapping[str, PropertyType]) -> Filter:
    match filter:
        case AllOf():
            return AllOf(tuple(_as_kept(part, types) for part in filter.filters))
        case AnyOf():
            return AnyOf(tuple(_as_kept(part, types) for part in filter.filters))
        case Not():
            return Not(_as_kept(filter.filter, types))
        case Comparison(property=name, value=value):
            kind = types.get(name)
            if kind is None:
                return filter
            if isinstance(value, Sequence) and not isinstance(value, str):
                return replace(filter, value=tuple(_kept_or_same(item, kind) for item in value))
            return replace(filter, value=_kept_or_same(value, kind))


def _kept_or_same(value: Json, kind: PropertyType) -> Json:
    kept = _as_type(value, kind)
    return value if kept is None else kept
