"""What comparisons mean: which values a property's type takes, and as what they are compared."""

from dataclasses import dataclass

from services.errors import InvalidArgument
from services.retrieval.records import Comparison, Json, Operator, PropertyType
from services.retrieval.stores.canonical import elements, plain
from services.retrieval.stores.properties import key_of

OWN = frozenset({"id", "title", "source_uri"})
"""Properties that every document has, which are columns."""

_EXACT = 2**53
_EQUALITY = {Operator.EQUAL, Operator.NOT_EQUAL, Operator.IN, Operator.NOT_IN}
_ORDER = {
    Operator.LESS,
    Operator.LESS_OR_EQUAL,
    Operator.GREATER,
    Operator.GREATER_OR_EQUAL,
}
_PATTERN = {Operator.LIKE, Operator.ILIKE}
_ALLOWED = {
    PropertyType.STRING: _EQUALITY | _ORDER | _PATTERN,
    PropertyType.INT64: _EQUALITY | _ORDER,
    PropertyType.FLOAT64: _EQUALITY | _ORDER,
    PropertyType.BOOL: _EQUALITY,
    PropertyType.UUID: _EQUALITY | _ORDER,
    PropertyType.DATETIME: _EQUALITY | _ORDER,
    PropertyType.STRING_LIST: _EQUALITY | {Operator.CONTAINS},
    PropertyType.JSON: set[Operator](),
}
_NAMES = {
    PropertyType.STRING: "a text",
    PropertyType.INT64: "a whole number of 64 bits; beyond 2^53 as its digits in a string",
    PropertyType.FLOAT64: "a number",
    PropertyType.BOOL: "true or false",
    PropertyType.UUID: "a UUID, as a string",
    PropertyType.DATETIME: "an instant like 2026-01-31T09:30:00Z, as a string",
    PropertyType.STRING_LIST: "a list of texts",
}
ORDERED = _ORDER
"""Operators that ask for an order."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """A comparison whose value was checked."""

    property: str
    kind: PropertyType | None
    """The declared type; None for properties that are not declared."""
    operator: Operator
    values: tuple[Json, ...]
    """What it is compared with: one value, or those of a list. In the form in which they are kept,
    or that of their keys."""


def meaning(comparison: Comparison, kind: PropertyType | None, field: str) -> Meaning:
    """Checks a comparison. `field` is the path of the comparison.

    Raises:
        InvalidArgument: the property can't be compared so, or not with this value.
    """
    operator, name = comparison.operator, comparison.property
    if kind is PropertyType.JSON:
        why = f"'{name}' holds any JSON and can't be compared"
        raise InvalidArgument(f"'{field}.property': {why}.", field=f"{field}.property")
    if kind is not None and operator not in _ALLOWED[kind]:
        why = f"'{name}', {_NAMES[kind]}, can't be compared by {operator.name}"
        raise InvalidArgument(f"'{field}.operator': {why}.", field=f"{field}.operator")
    path = f"{field}.value"
    value = plain(comparison.value, path)
    if operator in {Operator.IN, Operator.NOT_IN}:
        values = elements(value)
        if values is None:
            raise InvalidArgument(f"'{path}': {operator.name} takes a list.", field=path)
    else:
        values = [value]
    if operator in _PATTERN and not isinstance(value, str):
        raise InvalidArgument(f"'{path}': the pattern must be a text.", field=path)
    if operator is Operator.CONTAINS and kind is PropertyType.STRING_LIST:
        kind_of_value = PropertyType.STRING
    else:
        kind_of_value = kind
    return Meaning(
        name, kind, operator, tuple(_compared(item, kind_of_value, path) for item in values)
    )


def _compared(value: Json, kind: PropertyType | None, path: str) -> Json:
    """Returns a value as it is compared."""
    if kind is None:
        return value
    compared: Json = None
    match kind:
        case PropertyType.STRING:
            compared = value if isinstance(value, str) else None
        case PropertyType.BOOL:
            compared = value if isinstance(value, bool) else None
        case PropertyType.INT64:
            compared = _whole(value)
        case PropertyType.FLOAT64:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            compared = value if number else None
        case PropertyType.UUID | PropertyType.DATETIME:
            compared = key_of(value, kind) if isinstance(value, str) else None
        case PropertyType.STRING_LIST:
            texts = elements(value)
            if texts is not None and all(isinstance(text, str) for text in texts):
                compared = value
        case PropertyType.JSON:
            raise AssertionError("can't be compared")
    if compared is None:
        raise InvalidArgument(f"'{path}': must be {_NAMES[kind]}.", field=path)
    return compared


def _whole(value: Json) -> int | str | None:
    if isinstance(value, str):
        return key_of(value, PropertyType.INT64)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
