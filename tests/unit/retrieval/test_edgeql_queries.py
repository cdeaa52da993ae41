from typing import Any

import pytest

from services.errors import InvalidArgument
from services.retrieval.edgeql import Query, read_query
from services.retrieval.records import AllOf, AnyOf, Comparison, Filter, Not, Operator

ID = "6f1f3b0e-4a57-4d9b-8a0b-0f3a2a4f3c11"
VARIABLES: dict[str, object] = {
    "year": 2020.0,  # numbers of a Struct are floats
    "big": "9007199254740993",
    "name": "Mars",
    "names": ["Mars", "Venus"],
    "years": [1.0, 2.0],
    "id": ID.upper(),
    "since": "2024-01-01T00:00:00Z",
    "flag": True,
    "share": 1.5,
    "nothing": None,
    "0": "first",
    "limit": 7.0,
}
GLOBALS: dict[str, object] = {"default::me": "ann", "team": ["a", "b"], "app::level": 3.0}


def read(expression: str) -> Query:
    return read_query(expression, VARIABLES, GLOBALS)


@pytest.mark.parametrize(
    ("expression", "type_name", "limit"),
    [
        ("Astronomy", "Astronomy", None),
        (" Astronomy ; ", "Astronomy", None),
        ("default::Astronomy", "default::Astronomy", None),
        ("a::b::C", "a::b::C", None),
        ("`my docs!`", "my docs!", None),
        ("`a``b`", "a`b", None),
        ("`select`", "select", None),
        ("(Astronomy)", "Astronomy", None),
        ("select Astronomy", "Astronomy", None),
        ("SELECT Astronomy LIMIT 3", "Astronomy", 3),
        ("((select Astronomy limit 3))", "Astronomy", 3),
        ("(select Astronomy limit 0);", "Astronomy", 0),
        ("select X limit <int64>$limit", "X", 7),
        ("select X limit <optional int64>$absent", "X", None),
        ("select X limit <optional int64>$nothing", "X", None),
        ("select X # all of it\nlimit 1_000", "X", 1000),
        ("select Ärzte", "Ärzte", None),
    ],
)
def test_types_and_limits(expression: str, type_name: str, limit: int | None) -> None:
    assert read(expression) == Query(type_name, None, limit)


def test_the_collection_may_be_named_with_or_without_the_default_module() -> None:
    assert read("Film").collection_ids == ("Film", "default::Film")
    assert read("default::Film").collection_ids == ("default::Film", "Film")
    assert read("media::Film").collection_ids == ("media::Film",)


A = Comparison("a", Operator.EQUAL, 1)
B = Comparison("b", Operator.EQUAL, 2)
C = Comparison("c", Operator.EQUAL, 3)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (".a = 1", A),
        (". a = 1", A),
        (".`a` = 1", A),
        ("(((.a = 1)))", A),
        ("1 = .a", A),
        (".a != 1", Comparison("a", Operator.NOT_EQUAL, 1)),
        (".a < 1", Comparison("a", Operator.LESS, 1)),
        (".a<=1", Comparison("a", Operator.LESS_OR_EQUAL, 1)),
        (".a>1", Comparison("a", Operator.GREATER, 1)),
        (".a >= -1", Comparison("a", Operator.GREATER_OR_EQUAL, -1)),
        ("1 < .a", Comparison("a", Operator.GREATER, 1)),
        ("1 >= .a", Comparison("a", Operator.LESS_OR_EQUAL, 1)),
        (".a<<int64>$year", Comparison("a", Operator.LESS, 2020)),
        ("<int64>$year<.a", Comparison("a", Operator.GREATER, 2020)),
        (".limit = 1", Comparison("limit", Operator.EQUAL, 1)),
        (".a = 1.5e3", Comparison("a", Operator.EQUAL, 1500.0)),
        (".a = -9223372036854775808", Comparison("a", Operator.EQUAL, -(2**63))),
        (".a = true", Comparison("a", Operator.EQUAL, True)),
        (".a = False", Comparison("a", Operator.EQUAL, False)),
        (".a", Comparison("a", Operator.EQUAL, True)),
        ("not .a", Not(Comparison("a", Operator.EQUAL, True))),
        (".a = 'x'", Comparison("a", Operator.EQUAL, "x")),
        ('.a = "it\'s # no comment"', Comparison("a", Operator.EQUAL, "it's # no comment")),
        (r".a = '\'\"\\\n\x41\u00e9\U0001F600'", Comparison("a", Operator.EQUAL, "'\"\\\nAé😀")),
        (".a = 'one \\\n   line'", Comparison("a", Operator.EQUAL, "one line")),
        (r".a = r'\d+'", Comparison("a", Operator.EQUAL, r"\d+")),
        (".a like 'M%'", Comparison("a", Operator.LIKE, "M%")),
        (".a ILIKE <str>$name", Comparison("a", Operator.ILIKE, "Mars")),
        (".a not like 'M%'", Not(Comparison("a", Operator.LIKE, "M%"))),
        (".a not ilike 'M%'", Not(Comparison("a", Operator.ILIKE, "M%"))),
        (".a in {1, 2}", Comparison("a", Operator.IN, (1, 2))),
        (".a in {1, 2,}", Comparison("a", Operator.IN, (1, 2))),
        (".a in {}", Comparison("a", Operator.IN, ())),
        (".a in 1", Comparison("a", Operator.IN, (1,))),
        (".a in {<str>$name, 'x'}", Comparison("a", Operator.IN, ("Mars", "x"))),
        (".a in {<optional str>$absent, 'x'}", Comparison("a", Operator.IN, ("x",))),
        (".a in <optional str>$absent", Comparison("a", Operator.IN, ())),
        (".a not in {1}", Comparison("a", Operator.NOT_IN, (1,))),
        (".a in <array<str>>$names", Comparison("a", Operator.IN, ("Mars", "Venus"))),
        (".a in array_unpack(<array<int64>>$years)", Comparison("a", Operator.IN, (1, 2))),
        ("'x' in .a", Comparison("a", Operator.CONTAINS, "x")),
        ("'x' not in .a", Not(Comparison("a", Operator.CONTAINS, "x"))),
        (".a = <int32>$year", Comparison("a", Operator.EQUAL, 2020)),
        (".a = <std::int64>$year", Comparison("a", Operator.EQUAL, 2020)),
        (".a = <int64>$big", Comparison("a", Operator.EQUAL, 2**53 + 1)),
        (".a = <float64>$share", Comparison("a", Operator.EQUAL, 1.5)),
        (".a = <bool>$flag", Comparison("a", Operator.EQUAL, True)),
        (".id = <uuid>$id", Comparison("id", Operator.EQUAL, ID)),
        (f".id = <uuid>'{ID}'", Comparison("id", Operator.EQUAL, ID)),
        (".a > <datetime>$since", Comparison("a", Operator.GREATER, "2024-01-01T00:00:00Z")),
        (".a = <str>$0", Comparison("a", Operator.EQUAL, "first")),
        (".a = <optional str>$name", Comparison("a", Operator.EQUAL, "Mars")),
        (".a = global me", Comparison("a", Operator.EQUAL, "ann")),
        (".a = global default::me", Comparison("a", Operator.EQUAL, "ann")),
        (".a in global default::team", Comparison("a", Operator.IN, ("a", "b"))),
        (".a = <int64>global app::level", Comparison("a", Operator.EQUAL, 3)),
        # Precedence: `or`, `and`, `not`, comparisons.
        (".a = 1 or .b = 2 and .c = 3", AnyOf((A, AllOf((B, C))))),
        (".a = 1 and .b = 2 or .c = 3", AnyOf((AllOf((A, B)), C))),
        ("(.a = 1 or .b = 2) AND .c = 3", AllOf((AnyOf((A, B)), C))),
        (".a = 1 and .b = 2 and .c = 3", AllOf((A, B, C))),
        (".a = 1 and (.b = 2 and .c = 3)", AllOf((A, AllOf((B, C))))),
        ("not .a = 1 and .b = 2", AllOf((Not(A), B))),
        ("not (.a = 1 and .b = 2)", Not(AllOf((A, B)))),
        ("NOT not .a = 1", Not(Not(A))),
    ],
)
def test_conditions(condition: str, expected: Filter) -> None:
    assert read(f"(select X filter {condition})") == Query("X", expected)
    assert read(f"select X filter {condition} limit 5;") == Query("X", expected, 5)


def test_numbers_keep_their_types() -> None:
    for written, type_ in (
        ("<int64>$year", int),
        ("<float64>2", float),
        ("1", int),
        ("true", bool),
    ):
        found = read(f"select X filter .a = {written}").filter
        assert isinstance(found, Comparison)
        assert type(found.value) is type_


def test_a_comparison_with_an_absent_optional_is_met_by_nothing() -> None:
    for condition in (
        ".a = <optional str>$absent",
        "not .a = <optional str>$absent",
        ".b = 2 or .a = <optional str>$nothing",
    ):
        found = read(f"select X filter {condition}").filter
        assert found == Comparison("id", Operator.IN, ())


@pytest.mark.parametrize(
    ("expression", "at", "words"),
    [
        ("", (1, 1), "it ends where"),
        ("  \n ", (2, 2), "it ends where"),
        ("select", (1, 7), "a name"),
        ("select X filter", (1, 16), "a property"),
        ("select X\nlimit", (2, 6), "a value"),
        ("(select X", (1, 10), "`)`"),
        ("select X)", (1, 9), "`)` stands where"),
        ("my-docs", (1, 3), "`-` stands where"),
        ("select X; select Y", (1, 11), "`select` stands where"),
        ("select X { name }", (1, 10), "shapes"),
        ("select X filter .a.b = 1", (1, 19), "links"),
        ("select X filter .a = 1 order by .a", (1, 24), "`order by` is not supported"),
        ("select X offset 3", (1, 10), "`offset` is not supported"),
        ("insert X", (1, 1), "`insert` is not supported"),
        ("UPDATE X", (1, 1), "`update` is not supported"),
        ("delete X", (1, 1), "`delete` is not supported"),
        ("with y := 1 select X", (1, 1), "`with` is not supported"),
        ("for x in X union x", (1, 1), "`for` is not supported"),
        ("select X filter exists .a", (1, 17), "`exists` is not supported"),
        ("select X filter len(.a) = 3", (1, 17), "functions"),
        ("select X filter .a = .b", (1, 22), "links"),
        ("select X filter .a", None, ""),
        ("select X filter .a = 1 = 2", (1, 24), "`=` stands where"),
        ("select X filter .a = {1, 2}", (1, 22), "sets"),
        ("select X filter .a in [1, 2]", (1, 23), "{1, 2}"),
        ("select X filter .a = 'open", (1, 22), "no end"),
        ("select X filter .a = 1\n  and .b = 'open", (2, 12), "no end"),
        (r"select X filter .a = '\q'", (1, 22), "escape"),
        (r"select X filter .a = '\ud800'", (1, 22), "not a character"),
        (r"select X filter .a = '\x00'", (1, 22), "U+0000"),
        ("select X filter .a = b'bytes'", (1, 22), "`b` stands where"),
        ("select X filter .a = 007", (1, 22), "number"),
        ("select X filter .a = 5n", (1, 22), "number"),
        ("select X filter .a = 1e999", (1, 22), "out of the range"),
        ("select X filter .a = 9223372036854775808", (1, 22), "out of the range"),
        ("select X filter .a = $name", (1, 22), "`<str>$name`"),
        ("select X filter .a = <json>$name", (1, 22), "no cast to `json`"),
        ("select X filter .a like 5", (1, 25), "as a pattern"),
        ("select X filter .a in array_unpack(5)", (1, 36), "array"),
        ("select X filter .a ?= 5", (1, 20), "`?` can't stand here"),
        ("select X filter .a = 5 \x00", (1, 24), "can't stand here"),
        ("select X limit -1", (1, 17), "negative"),
        ("select X limit 1.5", (1, 16), "whole number"),
        ("select X limit true", (1, 16), "whole number"),
        ("select X limit 'x'", (1, 16), "whole number"),
    ],
)
def test_what_is_refused_is_named_with_its_place(
    expression: str, at: tuple[int, int] | None, words: str
) -> None:
    if at is None:
        read(expression)
        return
    with pytest.raises(InvalidArgument) as caught:
        read(expression)
    assert caught.value.field == "context.expression"
    assert caught.value.metadata == {"line": str(at[0]), "column": str(at[1])}
    assert f"line {at[0]}, column {at[1]}" in caught.value.message
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("written", "value", "words"),
    [
        ("<str>$v", None, "needs a value"),
        ("<str>$v", 5.0, "must be a string"),
        ("<str>$v", "\0", "U+0000"),
        ("<str>$v", ["x"], "must be a string"),
        ("<int64>$v", "five", "whole number"),
        ("<int64>$v", 1.5, "whole number"),
        ("<int64>$v", True, "whole number"),
        ("<int64>$v", float("nan"), "whole number"),
        ("<int64>$v", 1e30, "64 bits"),
        ("<int64>$v", "9223372036854775808", "64 bits"),
        ("<int16>$v", 40000.0, "16 bits"),
        ("<int32>$v", "5", "whole number"),
        ("<float32>$v", 1e39, "fits"),
        ("<float64>$v", float("inf"), "fits"),
        ("<float64>$v", 10**400, "fits"),
        ("<float64>$v", "1.5", "must be a number"),
        ("<bool>$v", 1.0, "true or false"),
        ("<uuid>$v", "no", "UUID"),
        ("<datetime>$v", "yesterday", "RFC 3339"),
        ("<datetime>$v", "2024-01-01T00:00:00", "offset"),
        ("<array<str>>$v", ["x"], "one value"),
        ("<optional str>$v", 5.0, "must be a string"),
    ],
)
def test_variables_must_be_what_their_casts_say(written: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=r"line 2, column \d+: `\$v`") as caught:
        read_query(f"select X filter\n.a = {written}", {"v": value}, {})
    assert caught.value.field == "context.variables.v"
    assert words in caught.value.message


@pytest.mark.parametrize("value", [["x", 1.0], "x", {"a": "x"}, 1.0])
def test_arrays_must_hold_what_their_casts_say(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="must be a list") as caught:
        read_query("select X filter .a in <array<str>>$v", {"v": value}, {})
    assert caught.value.field == "context.variables.v"


@pytest.mark.parametrize("value", [None, {"a": 1}, [[1]], float("inf"), 2**63])
def test_globals_must_be_values(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="`global g`") as caught:
        read_query("select X filter .a in global g", {}, {"g": value})
    assert caught.value.field == "context.globals.g"


def test_limits_of_a_query() -> None:
    read("select X filter " + "not " * 16 + ".a")
    read("select X filter " + " and ".join([".a"] * 64))
    read("select X" + " " * (65536 - 8))
    for expression, words in (
        ("select X filter " + "not " * 17 + ".a", "nested more than 16 deep"),
        ("select X filter " + "not " * 16000 + ".a", "nested more than 16 deep"),
        ("select X filter " + " and ".join([".a"] * 65), "more than 64"),
        ("select X filter " + " or ".join([".a"] * 9000), "more than 64"),
        ("select X" + " " * (65537 - 8), "longer than 65,536 bytes"),
        ("é" * 32769, "longer than 65,536 bytes"),
        ("(" * 65000, "it ends where"),
        ("select X filter " + "(" * 60000 + ".a", "it ends where"),
        ("select X filter .a = " + "-" * 60000, "`-` stands where"),
        ("select X filter .a = " + "9" * 60000, "out of the range"),
    ):
        with pytest.raises(InvalidArgument, match=words):
            read(expression)


def test_parentheses_alone_are_not_nested_conditions() -> None:
    expression = "select X filter " + "(" * 5000 + ".a = 1" + ")" * 5000
    assert read(expression).filter == A
