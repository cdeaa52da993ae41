"""The parser: the grammar, and what its rules build."""

from importlib.resources import files
from typing import Any

from lark import Lark, Token, Transformer, v_args  # pyright: ignore[reportUnknownVariableType]
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from services.retrieval.edgeql.casts import SCALARS
from services.retrieval.edgeql.faults import fault_at
from services.retrieval.edgeql.literals import name_of, number_of, property_of, text_of
from services.retrieval.edgeql.nodes import (
    Cast,
    Condition,
    Joined,
    Negated,
    Select,
    SetOf,
    Test,
    Unpacked,
    Value,
)
from services.retrieval.edgeql.refusals import refuse_reserved, unreadable, unwanted
from services.retrieval.records import Operator

MAX_BYTES = 65536
MAX_DEPTH = 16
MAX_FILTERS = 64

_OPERATORS = {
    "=": Operator.EQUAL,
    "!=": Operator.NOT_EQUAL,
    "<": Operator.LESS,
    "<=": Operator.LESS_OR_EQUAL,
    ">": Operator.GREATER,
    ">=": Operator.GREATER_OR_EQUAL,
    "in": Operator.IN,
    "like": Operator.LIKE,
    "ilike": Operator.ILIKE,
}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


def parse(expression: str) -> Select:
    """Reads a query. Raises InvalidArgument, with line and column."""
    if len(expression.encode("utf-8", "replace")) > MAX_BYTES:
        raise fault_at((1, 1), f"it is longer than {MAX_BYTES:,} bytes.")
    try:
        # The parser keeps a stack of its own, so that depth can't exhaust Python's, and calls the
        # builder as it goes: it returns what `start` builds.
        select: Any = _PARSER.parse(expression)  # pyright: ignore[reportUnknownMemberType]
    except UnexpectedToken as error:
        raise unwanted(error, expression) from error
    except UnexpectedCharacters as error:
        raise unreadable(error, expression) from error
    return select


def _nested(token: Token, *conditions: Condition) -> int:
    depth = 1 + max(condition.depth for condition in conditions)
    if depth > MAX_DEPTH:
        raise fault_at(token, f"conditions are nested more than {MAX_DEPTH} deep.")
    return depth


@v_args(inline=True)
class _Builder(Transformer[Token, Select]):
    def start(self, select: Select, *_: Token) -> Select:
        return select

    def everything(self, type_name: str) -> Select:
        return Select(type_name, None, None)

    def select(
        self,
        _select: Token,
        type_name: str,
        _filter: Token | None,
        condition: Condition | None,
        _limit: Token | None,
        limit: Value | None,
    ) -> Select:
        return Select(type_name, condition, limit)

    def type_name(self, *parts: str) -> str:
        return "::".join(parts)

    def name(self, token: Token) -> str:
        return name_of(token)

    def any_of(self, *parts: Condition | Token) -> Condition:
        return _joined(parts, by_and=False)

    def all_of(self, *parts: Condition | Token) -> Condition:
        return _joined(parts, by_and=True)

    def negated(self, word: Token, condition: Condition) -> Condition:
        return Negated(condition, _nested(word, condition))

    def holds(self, field: Token) -> Condition:
        return Test(property_of(field), Operator.EQUAL, None)

    def compare(self, field: Token, sign: Token, value: Value | SetOf | Unpacked) -> Condition:
        return Test(property_of(field), _OPERATORS[sign.lower()], value)

    def compare_turned(self, value: Value, sign: Token, field: Token) -> Condition:
        return Test(property_of(field), _OPERATORS[_TURNED.get(sign, sign)], value)

    def compare_not(
        self, field: Token, word: Token, sign: Token, value: Value | SetOf | Unpacked
    ) -> Condition:
        test = Test(property_of(field), _OPERATORS[sign.lower()], value)
        if test.operator is Operator.IN:
            return Test(test.property, Operator.NOT_IN, value)
        return Negated(test, _nested(word, test))

    def contained(self, value: Value, _in: Token, field: Token) -> Condition:
        return Test(property_of(field), Operator.CONTAINS, value)

    def not_contained(self, value: Value, word: Token, _in: Token, field: Token) -> Condition:
        test = Test(property_of(field), Operator.CONTAINS, value)
        return Negated(test, _nested(word, test))

    def set_of(self, *values: Value | None) -> SetOf:
        return SetOf(tuple(value for value in values if value is not None))

    def unpacked(self, _word: Token, value: Value) -> Unpacked:
        return Unpacked(value)

    def value(self, cast: Cast | None, atom: Value | Token) -> Value:
        if isinstance(atom, Token):
            if atom.type == "VARIABLE":
                if cast is None:
                    raise fault_at(
                        atom, f"`{atom}` needs a type before it, for example `<str>{atom}`."
                    )
                return Value(atom, cast, variable=name_of(atom[1:]))
            return Value(atom, cast, literal=atom.type == "TRUE")
        return Value(atom.token, cast, atom.literal, atom.variable, atom.global_name)

    def text(self, token: Token) -> Value:
        return Value(token, None, literal=text_of(token))

    def number(self, minus: Token | None, token: Token) -> Value:
        return Value(token, None, literal=number_of(token, -1 if minus else 1))

    def cast(
        self, less: Token, optional: Token | None, kind: tuple[str, bool], _more: Token
    ) -> Cast:
        written, is_array = kind
        type_name = written.removeprefix("std::")
        if type_name not in SCALARS:
            raise fault_at(
                less, f"there is no cast to `{written}`; there are {', '.join(SCALARS)} and arrays."
            )
        return Cast(type_name, is_array, optional is not None)

    def scalar_type(self, type_name: str) -> tuple[str, bool]:
        return type_name, False

    def array_type(
        self, _array: Token, _less: Token, type_name: str, _more: Token
    ) -> tuple[str, bool]:
        return type_name, True

    def global_name(self, word: Token, name: str) -> Value:
        return Value(word, None, global_name=name)


def _joined(parts: tuple[Condition | Token, ...], *, by_and: bool) -> Condition:
    words = [part for part in parts if isinstance(part, Token)]
    conditions = tuple(part for part in parts if not isinstance(part, Token))
    if len(conditions) > MAX_FILTERS:
        raise fault_at(
            words[MAX_FILTERS - 1], f"more than {MAX_FILTERS} conditions are joined here."
        )
    return Joined(conditions, by_and, _nested(words[0], *conditions))


_PARSER = Lark(
    files("services.retrieval.edgeql").joinpath("grammar.lark").read_text(encoding="utf-8"),
    parser="lalr",
    maybe_placeholders=True,
    transformer=_Builder(),
    lexer_callbacks={"NAME": refuse_reserved},
)
