"""What filters mean, told once more without a database."""

from __future__ import annotations

import re
import uuid
from datetime import datetime
from typing import Any

from services.retrieval.records import (
    AllOf,
    AnyOf,
    Comparison,
    Filter,
    Json,
    NewDocument,
    Not,
    Operator,
    PropertyType,
)

MISSING = object()
OWN = {"id", "title", "source_uri"}
ORDER = {"LESS", "LESS_OR_EQUAL", "GREATER", "GREATER_OR_EQUAL"}
_NEGATIVE = {Operator.NOT_EQUAL: Operator.EQUAL, Operator.NOT_IN: Operator.IN}


def meets(new: NewDocument, filter: Filter, types: dict[str, PropertyType]) -> bool:
    """Whether a document meets a filter, none of whose comparisons is refused."""
    match filter:
        case AllOf():
            return all(meets(new, part, types) for part in filter.filters)
        case AnyOf():
            return any(meets(new, part, types) for part in filter.filters)
        case Not():
            return not meets(new, filter.filter, types)
        case Comparison():
            return compares(new, filter, types)


def compares(new: NewDocument, one: Comparison, types: dict[str, PropertyType]) -> bool:
    if one.operator in _NEGATIVE:
        return not compares(
            new, Comparison(one.property, _NEGATIVE[one.operator], one.value), types
        )
    kind = kind_of(one, types)
    if one.property in OWN:
        value = getattr(new, one.property)
    else:
        value = new.properties.get(one.property, MISSING)
    have, wanted = understood(value, kind), wanted_by(one, kind)
    match one.operator:
        case Operator.EQUAL | Operator.IN:
            return any(same(have, item) for item in wanted)
        case Operator.LIKE:
            return isinstance(have, str) and like(have, wanted[0])
        case Operator.ILIKE:
            return isinstance(have, str) and like(folded(have), folded(wanted[0]))
        case Operator.CONTAINS:
            return isinstance(have, list | tuple) and any(same(item, wanted[0]) for item in have)
    pair = (shape(have), shape(wanted[0]))
    if have is MISSING or pair[0] != pair[1] or pair[0] not in {"number", "text", "instant"}:
        return False
    left, right = have, wanted[0]
    return {
        Operator.LESS: lambda: left < right,
        Operator.LESS_OR_EQUAL: lambda: left <= right,
        Operator.GREATER: lambda: left > right,
        Operator.GREATER_OR_EQUAL: lambda: left >= right,
    }[one.operator]()


def folded(text: str) -> str:
    """Without case, where that changes no lengths."""
    candidates = [(char.casefold(), char.lower(), char) for char in text]
    return "".join(next(one for one in each if len(one) == 1) for each in candidates)


def kind_of(one: Comparison, types: dict[str, PropertyType]) -> PropertyType | None:
    return PropertyType.STRING if one.property in OWN else types.get(one.property)


def wanted_by(one: Comparison, kind: PropertyType | None) -> list[Any]:
    """The values that are asked for, as the property's type means them."""
    if one.operator in {Operator.IN, Operator.NOT_IN}:
        return [understood(item, kind) for item in one.value]
    if one.operator is Operator.CONTAINS and kind is PropertyType.STRING_LIST:
        kind = PropertyType.STRING
    return [understood(one.value, kind)]


def is_refused(one: Comparison, types: dict[str, PropertyType]) -> bool:
    """Whether the property can't be compared so, or not with this value."""
    kind, name = kind_of(one, types), one.operator.name
    if name in {"LIKE", "ILIKE"}:
        return kind not in {PropertyType.STRING, None} or not isinstance(one.value, str)
    if name in ORDER and kind in {PropertyType.BOOL, PropertyType.STRING_LIST}:
        return True
    if name == "CONTAINS" and kind not in {PropertyType.STRING_LIST, None}:
        return True
    if name in {"IN", "NOT_IN"} and not isinstance(one.value, list | tuple):
        return True
    return MISSING in wanted_by(one, kind)


def understood(value: Any, kind: PropertyType | None) -> Any:
    """The value as its type means it; MISSING where it is of another."""
    if value is MISSING or kind is None:
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case PropertyType.STRING:
            fits = isinstance(value, str)
        case PropertyType.BOOL:
            fits = isinstance(value, bool)
        case PropertyType.FLOAT64:
            fits = number
        case PropertyType.INT64:
            if isinstance(value, str) and re.fullmatch("-?[0-9]{1,19}", value):
                value, number = int(value), True
            fits = number and value == int(value) and -(2**63) <= value < 2**63
        case PropertyType.STRING_LIST:
            fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
        case PropertyType.UUID:
            try:
                return uuid.UUID(value)
            except (ValueError, AttributeError, TypeError):
                return MISSING
        case PropertyType.DATETIME:
            try:
                assert "T" in value
                return datetime.fromisoformat(value)
            except (ValueError, AssertionError, TypeError):
                return MISSING
    return value if fits else MISSING


def shape(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, uuid.UUID | datetime):
        return "instant"
    return "other"


def same(one: Json, two: Json) -> bool:
    """Whether JSON values are the same: never of different types."""
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[name], two[name]) for name in one)
    return shape(one) == shape(two) and one == two


def like(text: str, pattern: str) -> bool:
    """Matches by trying, character by character."""
    if not pattern:
        return not text
    first, rest = pattern[0], pattern[1:]
    if first == "%":
        rest = rest.lstrip("%")
        return any(like(text[at:], rest) for at in range(len(text) + 1))
    if first == "\\" and rest:
        first, rest = rest[0], rest[1:]
    elif first == "_":
        return bool(text) and like(text[1:], rest)
    return text[:1] == first and like(text[1:], rest)
