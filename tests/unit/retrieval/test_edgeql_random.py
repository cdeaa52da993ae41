"""Generated queries: what is written is read back, and junk is refused in words."""

import re

from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.retrieval.edgeql import Query, read_query
from services.retrieval.records import AllOf, AnyOf, Comparison, Filter, Json, Not, Operator

SIGNS = {
    Operator.EQUAL: "=",
    Operator.NOT_EQUAL: "!=",
    Operator.LESS: "<",
    Operator.LESS_OR_EQUAL: "<=",
    Operator.GREATER: ">",
    Operator.GREATER_OR_EQUAL: ">=",
    Operator.LIKE: "like",
    Operator.ILIKE: "ilike",
    Operator.IN: "in",
    Operator.NOT_IN: "not in",
}
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
names = texts.filter(bool)
scalars = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
compared = [Operator(number) for number in range(1, 7)]
comparisons = st.one_of(
    st.builds(Comparison, names, st.sampled_from(compared), scalars),
    st.builds(Comparison, names, st.sampled_from([Operator.LIKE, Operator.ILIKE]), texts),
    st.builds(
        Comparison,
        names,
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.lists(scalars, max_size=4).map(tuple),
    ),
    st.builds(Comparison, names, st.just(Operator.CONTAINS), scalars),
)


def joined(parts: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    several = st.lists(parts, min_size=2, max_size=4).map(tuple)
    return st.one_of(st.builds(AllOf, several), st.builds(AnyOf, several), st.builds(Not, parts))


filters = st.recursive(comparisons, joined, max_leaves=12)


class Writer:
    """Writes filters as EdgeQL: values as literals or as variables, spaces or comments between."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.variables: dict[str, object] = {}

    def gap(self) -> str:
        return self.draw(st.sampled_from([" ", "\n", "\t ", " # a remark\n"]))

    def word(self, word: str) -> str:
        return self.draw(st.sampled_from([word, word.upper(), word.capitalize()]))

    def name(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def text(self, text: str) -> str:
        quote = self.draw(st.sampled_from("'\""))
        if "\\" not in text and quote not in text and self.draw(st.booleans()):
            return f"r{quote}{text}{quote}"
        return quote + text.replace("\\", "\\\\").replace(quote, "\\" + quote) + quote

    def scalar(self, value: Json) -> str:
        if self.draw(st.booleans()):
            return self.variable(value)
        if isinstance(value, bool):
            return self.word(str(value).lower())
        if isinstance(value, str):
            return self.text(value)
        written = repr(value)
        assert re.fullmatch(r"-?[0-9.]+(e[+-]?[0-9]+)?", written)
        return written

    def variable(self, value: Json) -> str:
        cast = {bool: "bool", str: "str", int: "int64", float: "float64"}[type(value)]
        name = f"v{len(self.variables)}"
        self.variables[name] = str(value) if cast == "int64" else value
        optional = self.draw(st.sampled_from(["", "optional "]))
        return f"<{optional}{cast}>${name}"

    def filter(self, found: Filter) -> str:
        """Writes it so that it can stand anywhere."""
        match found:
            case Not():
                inner = found.filter
                return f"({self.word('not')}{self.gap()}{self.filter(inner)})"
            case AllOf() | AnyOf():
                word = self.word("and" if isinstance(found, AllOf) else "or")
                between = f"{self.gap()}{word}{self.gap()}"
                return f"({between.join(self.filter(part) for part in found.filters)})"
            case Comparison():
                path = "." + self.name(found.property)
                if found.operator is Operator.CONTAINS:
                    value = self.scalar(found.value)
                    return f"({value}{self.gap()}{self.word('in')}{self.gap()}{path})"
                if isinstance(found.value, tuple):
                    value = "{" + ", ".join(self.scalar(item) for item in found.value) + "}"
                else:
                    value = self.scalar(found.value)
                return f"({path} {self.word(SIGNS[found.operator])}{self.gap()}{value})"


@st.composite
def queries(draw: st.DrawFn) -> tuple[str, dict[str, object], Query]:
    writer = Writer(draw)
    parts = draw(st.lists(names, min_size=1, max_size=3))
    chosen = draw(st.none() | filters)
    limit = draw(st.none() | st.integers(0, 2**63 - 1))
    written = f"{writer.word('select')} {'::'.join(writer.name(part) for part in parts)}"
    if chosen is not None:
        written += f"{writer.gap()}{writer.word('filter')} {writer.filter(chosen)}"
    if limit is not None:
        written += f"{writer.gap()}{writer.word('limit')} {writer.scalar(limit)}"
    if draw(st.booleans()):
        written = f"({written})"
    return (
        written + draw(st.sampled_from(["", ";", " ;\n"])),
        writer.variables,
        Query("::".join(parts), chosen, limit),
    )


@given(queries())
def test_what_is_written_is_read_back(query: tuple[str, dict[str, object], Query]) -> None:
    written, variables, expected = query
    found = read_query(written, variables, {})
    assert found == expected
    assert repr(found) == repr(expected), "1, 1.0 and True are equal, but not the same"


WORDS = """
    select filter limit and or not in like ilike global true optional array_unpack insert order
    X a::b `q` ( ) { } [ ] < > <= = != ; , . .a .b $v <str>$v <array<str>>$v 1 -1 1.5 'x' " ' r'
    # \\ @ :: é \u200b
"""
PIECES = st.sampled_from([*WORDS.split(), "\n", "\0"])


def refusal(expression: str, variables: dict[str, object]) -> InvalidArgument | None:
    try:
        read_query(expression, variables, {})
    except InvalidArgument as error:
        return error
    return None


@given(
    st.one_of(
        st.text(max_size=200),
        st.lists(PIECES, max_size=30).map(" ".join),
        st.lists(PIECES, max_size=30).map("".join),
    )
)
def test_junk_is_read_or_refused_in_words(expression: str) -> None:
    lines = expression.split("\n")
    if error := refusal(expression, {"v": "x"}):
        line, column = int(error.metadata["line"]), int(error.metadata["column"])
        assert 1 <= line <= len(lines)
        assert 1 <= column <= len(lines[line - 1]) + 1
        assert error.field


@given(queries(), st.data())
def test_cut_or_mixed_up_queries_are_read_or_refused(
    query: tuple[str, dict[str, object], Query], data: st.DataObject
) -> None:
    written, variables, _ = query
    cut = data.draw(st.integers(0, len(written)))
    other = data.draw(st.integers(0, len(written)))
    for expression in (
        written[:cut],
        written[cut:] + written[:cut],
        written[:cut] + written[other:],
    ):
        if error := refusal(expression, variables):
            assert "line" in error.metadata
