"""Reads a query and puts the values of its variables in."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.errors import InvalidArgument
from services.retrieval.edgeql.casts import WrongTypeError, convert, plain
from services.retrieval.edgeql.faults import fault_at
from services.retrieval.edgeql.nodes import (
    Condition,
    Joined,
    Negated,
    SetOf,
    Test,
    Unpacked,
    Value,
)
from services.retrieval.edgeql.syntax import parse
from services.retrieval.records import AllOf, AnyOf, Comparison, Filter, Json, Not, Operator

DEFAULT_MODULE = "default::"
MAX_SHOWN = 40
NEVER = Comparison("id", Operator.IN, ())
"""Met by no document."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which documents are meant."""

    type_name: str
    """As it is written, without quotes: `Astronomy`, `default::Astronomy`."""
    filter: Filter | None = None
    limit: int | None = None

    @property
    def collection_ids(self) -> tuple[str, ...]:
        """IDs of the collection that may be meant, the likeliest first: `default::` may be left
        out, or be part of the ID."""
        return _with_and_without_module(self.type_name)


def read_query(
    expression: str, variables: Mapping[str, object], globals: Mapping[str, object]
) -> Query:
    """Reads a query. Variables that it doesn't name are not read.

    Raises:
        InvalidArgument: it can't be read, names line and column; or a variable or global is
            missing, or not what its cast says.
    """
    select = parse(expression)
    values = _Values(variables, globals)
    try:
        limit = None if select.limit is None else values.limit(select.limit)
    except _Absent:
        limit = None
    try:
        chosen = None if select.condition is None else values.filter(select.condition)
    except _Absent:
        chosen = NEVER  # as in EdgeQL: a condition on an empty set is met by nothing
    return Query(select.type_name, chosen, limit)


class _Absent(Exception):  # noqa: N818 (no error: an optional variable has no value)
    """An optional variable was not given."""


class _Values:
    def __init__(self, variables: Mapping[str, object], globals: Mapping[str, object]) -> None:
        self._variables = variables
        self._globals = globals

    def filter(self, condition: Condition) -> Filter:
        """Puts values into a condition, which is nested 16 deep at most."""
        match condition:
            case Negated():
                return Not(self.filter(condition.condition))
            case Joined():
                parts = tuple(self.filter(part) for part in condition.conditions)
                return AllOf(parts) if condition.by_and else AnyOf(parts)
            case Test(value=None):
                return Comparison(condition.property, condition.operator, True)
            case Test(operator=Operator.IN | Operator.NOT_IN):
                items = self._items(condition.value)
                return Comparison(condition.property, condition.operator, items)
            case Test():
                return Comparison(condition.property, condition.operator, self._compared(condition))

    def limit(self, value: Value) -> int:
        """Returns the limit."""
        number = self._one(value)
        if isinstance(number, bool) or not isinstance(number, int | float) or number % 1:
            raise self._fault(value, "must be a whole number, as a limit")
        if number < 0:
            raise self._fault(value, "must not be negative, as a limit")
        return int(number)

    def _compared(self, test: Test) -> Json:
        if not isinstance(test.value, Value):
            raise AssertionError("the grammar lets sets stand behind `in` only")
        value = self._one(test.value)
        if test.operator in {Operator.LIKE, Operator.ILIKE} and not isinstance(value, str):
            raise self._fault(test.value, "must be a string, as a pattern")
        return value

    def _items(self, values: Value | SetOf | Unpacked | None) -> tuple[Json, ...]:
        match values:
            case SetOf():
                return tuple(item for value in values.values for item in self._present(value))
            case Unpacked():
                if (found := self._many(values.value)) is None:
                    raise self._fault(values.value, "must be an array, for array_unpack")
                return found
            case Value():
                found = self._many(values)
                return self._present(values) if found is None else found
            case None:
                raise AssertionError("the grammar wants a value behind `in`")

    def _present(self, value: Value) -> tuple[Json, ...]:
        try:
            return (self._one(value),)
        except _Absent:
            return ()

    def _many(self, value: Value) -> tuple[Json, ...] | None:
        """Returns the items of an array; None where the value is none."""
        try:
            found = self._resolved(value)
        except _Absent:
            return ()
        return found if isinstance(found, tuple) else None

    def _one(self, value: Value) -> Json:
        found = self._resolved(value)
        if isinstance(found, tuple):
            raise self._fault(value, "must be one value here; a list can stand behind `in`")
        return found

    def _resolved(self, value: Value) -> Json:
        raw = self._raw(value)
        try:
            if value.cast is None:
                return plain(raw)
            return convert(raw, value.cast.type_name, is_array=value.cast.is_array)
        except WrongTypeError as error:
            raise self._fault(value, str(error)) from error

    def _raw(self, value: Value) -> object:
        if value.variable:
            raw = self._variables.get(value.variable)
        elif value.global_name:
            names = _with_and_without_module(value.global_name)
            raw = next((self._globals[name] for name in names if name in self._globals), None)
        else:
            return value.literal
        if raw is None:
            if value.cast and value.cast.is_optional:
                raise _Absent
            raise self._fault(value, "needs a value")
        return raw

    def _fault(self, value: Value, reason: str) -> InvalidArgument:
        if value.variable:
            field = f"context.variables.{value.variable}"
            return fault_at(value.token, f"`${value.variable}` {reason}.", field=field)
        if value.global_name:
            field = f"context.globals.{value.global_name}"
            return fault_at(value.token, f"`global {value.global_name}` {reason}.", field=field)
        literal = value.literal
        is_number = isinstance(literal, int | float) and not isinstance(literal, bool)
        shown = str(literal) if is_number else value.token[:MAX_SHOWN]
        return fault_at(value.token, f"`{shown}` {reason}.")


def _with_and_without_module(name: str) -> tuple[str, ...]:
    bare = name.removeprefix(DEFAULT_MODULE)
    if bare != name:
        return name, bare
    return (name,) if "::" in name else (name, DEFAULT_MODULE + name)
