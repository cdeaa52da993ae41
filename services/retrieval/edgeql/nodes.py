"""What a query says, before its variables have values."""

from __future__ import annotations

from dataclasses import dataclass

from lark import Token

from services.retrieval.records import Operator


@dataclass(frozen=True, slots=True)
class Cast:
    """`<type>`, before a value."""

    type_name: str
    is_array: bool
    is_optional: bool


@dataclass(frozen=True, slots=True)
class Value:
    """A value as it is written: a literal, `$variable` or `global name`."""

    token: Token
    """Where it stands."""
    cast: Cast | None
    literal: str | int | float | bool | None = None
    variable: str = ""
    global_name: str = ""


@dataclass(frozen=True, slots=True)
class SetOf:
    """`{1, 2}`."""

    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """`array_unpack(<array<str>>$values)`."""

    value: Value


@dataclass(frozen=True, slots=True)
class Test:
    """Compares a property; `depth` of a test is 0."""

    property: str
    operator: Operator
    value: Value | SetOf | Unpacked | None
    """None: true, for a property that stands alone."""
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Joined:
    """Conditions joined by `and` or `or`."""

    conditions: tuple[Condition, ...]
    by_and: bool
    depth: int


@dataclass(frozen=True, slots=True)
class Negated:
    """`not`, before a condition."""

    condition: Condition
    depth: int


Condition = Test | Joined | Negated


@dataclass(frozen=True, slots=True)
class Select:
    """A whole query."""

    type_name: str
    condition: Condition | None
    limit: Value | None
