"""Values of properties in SQL, as each database says them."""

from typing import Any, Protocol

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from services.retrieval.records import Json, Operator
from services.retrieval.stores.canonical import canonical
from services.retrieval.stores.patterns import escaped, folded, folds_into

Condition = ColumnElement[bool]


class Value(Protocol):
    """A value of a document that a row may have. Conditions may be NULL where it has none."""

    def one_of(self, values: tuple[Json, ...]) -> Condition:
        """Is the same as any of these."""
        ...

    def ordered(self, operator: Operator, value: int | float | str) -> Condition:
        """Has the same type as this one, and that order to it."""
        ...

    def like(self, pattern: str, *, any_case: bool) -> Condition:
        """Is a text that matches."""
        ...

    def contains(self, value: Json) -> Condition:
        """Is a list with this in it."""
        ...


class EmbeddedText:
    """A column of texts in SQLite."""

    def __init__(self, column: ColumnElement[Any]) -> None:
        self._column = column

    def one_of(self, values: tuple[Json, ...]) -> Condition:
        """Is the same as any of these."""
        each = func.json_each(canonical(values)).table_valued("value")
        return self._column.in_(select(each.c.value))

    def ordered(self, operator: Operator, value: int | float | str) -> Condition:
        """Has that order to a text."""
        return _ordered(self._column, operator, literal(value, Text))

    def like(self, pattern: str, *, any_case: bool) -> Condition:
        """Matches."""
        if any_case:
            return func.penstock_ilike(self._column, folded(pattern), type_=Boolean)
        return func.penstock_like(self._column, pattern, type_=Boolean)

    def contains(self, value: Json) -> Condition:
        """Never: it is no list."""
        return false()


class EmbeddedJson:
    """A value within a JSON column in SQLite."""

    def __init__(self, column: Column[Any], *names: str) -> None:
        self._column = column
        path = "$" + "".join(f'."{name}"' for name in names)
        self._path = literal(path, Text)
        # Kept in the one way that `canonical` writes, so equal values are equal texts.
        self._json = column.op("->")(self._path)
        self._kind = func.json_type(column, self._path)
        self._plain = func.json_extract(column, self._path)

    def one_of(self, values: tuple[Json, ...]) -> Condition:
        """Is the same as any of these."""
        return EmbeddedText(self._json).one_of(tuple(canonical(value) for value in values))

    def ordered(self, operator: Operator, value: int | float | str) -> Condition:
        """Has the same type as this one, and that order to it."""
        if isinstance(value, str):
            text = case((self._kind == "text", self._plain))
            return _ordered(text, operator, literal(value, Text))
        number = case(
            (self._kind == "integer", self._plain),
            (self._kind == "real", func.penstock_number(self._json)),
        )
        return _ordered(number, operator, literal(value))

    def like(self, pattern: str, *, any_case: bool) -> Condition:
        """Is a text that matches."""
        text = case((self._kind == "text", self._plain))
        return EmbeddedText(text).like(pattern, any_case=any_case)

    def contains(self, value: Json) -> Condition:
        """Is a list with this in it."""
        each = func.json_each(self._column, self._path).table_valued("fullkey")
        same = self._column.op("->")(each.c.fullkey) == canonical(value)
        return and_(self._kind == "array", select(each.c.fullkey).where(same).exists())


class PostgresText:
    """A column of texts in Postgres."""

    def __init__(self, column: ColumnElement[Any]) -> None:
        self._column = column.collate("C")

    def one_of(self, values: tuple[Json, ...]) -> Condition:
        """Is the same as any of these."""
        each = func.jsonb_array_elements_text(_jsonb(values))
        return self._column.in_(select(each.column_valued()))

    def ordered(self, operator: Operator, value: int | float | str) -> Condition:
        """Has that order to a text."""
        return _ordered(self._column, operator, literal(value, Text))

    def like(self, pattern: str, *, any_case: bool) -> Condition:
        """Matches."""
        if not any_case:
            return self._column.like(escaped(pattern), escape="\\")
        # Postgres folds case by the rules of its locale. Only characters that fold into one of the
        # pattern's matter.
        wanted = folded(pattern)
        text = func.translate(self._column, *folds_into(wanted), type_=Text).collate("C")
        return text.like(escaped(wanted), escape="\\")

    def contains(self, value: Json) -> Condition:
        """Never: it is no list."""
        return false()


class PostgresJson:
    """A value within a JSON column in Postgres."""

    def __init__(self, column: Column[Any], *names: str) -> None:
        path = [literal(name, Text) for name in names]
        self._json = func.jsonb_extract_path(column, *path, type_=JSONB)
        self._text = func.jsonb_extract_path_text(column, *path, type_=Text)
        self._kind = func.jsonb_typeof(self._json)

    def one_of(self, values: tuple[Json, ...]) -> Condition:
        """Is the same as any of these."""
        each = func.jsonb_array_elements(_jsonb(values), type_=JSONB)
        return self._json.in_(select(each.column_valued()))

    def ordered(self, operator: Operator, value: int | float | str) -> Condition:
        """Has the same type as this one, and that order to it."""
        if isinstance(value, str):
            text = case((self._kind == "string", self._text))
            return PostgresText(text).ordered(operator, value)
        number = case((self._kind == "number", self._json))
        return _ordered(number, operator, _jsonb(value))

    def like(self, pattern: str, *, any_case: bool) -> Condition:
        """Is a text that matches."""
        text = case((self._kind == "string", self._text))
        return PostgresText(text).like(pattern, any_case=any_case)

    def contains(self, value: Json) -> Condition:
        """Is a list with this in it."""
        items = case((self._kind == "array", self._json), else_=_jsonb([]))
        each = func.jsonb_array_elements(items, type_=JSONB).column_valued()
        return select(each).where(each == _jsonb(value)).exists()


def _jsonb(value: Json) -> ColumnElement[Any]:
    return cast(literal(canonical(value), Text), JSONB)


def _ordered(left: ColumnElement[Any], operator: Operator, right: ColumnElement[Any]) -> Condition:
    match operator:
        case Operator.LESS:
            return left < right
        case Operator.LESS_OR_EQUAL:
            return left <= right
        case Operator.GREATER:
            return left > right
        case _:
            return left >= right
