import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidArgument, MissingField
from services.retrieval.records import (
    AllOf,
    AnyOf,
    Comparison,
    Filter,
    Json,
    Not,
    Operator,
    PropertySchema,
    PropertyType,
)
from services.retrieval.values import MOST_PROPERTY_BYTES, as_kept, as_type, check_properties

T = PropertyType
UUID = "a7e6c1f0-0000-4000-8000-0123456789ab"
JSONS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("kind", "given", "kept"),
    [
        (T.STRING, "a", "a"),
        (T.INT64, 3.0, 3),
        (T.INT64, -(2.0**53), -(2**53)),
        (T.INT64, "9007199254740993", 9007199254740993),
        (T.INT64, str(-(2**63)), -(2**63)),
        (T.FLOAT64, 3.0, 3.0),
        (T.FLOAT64, 7, 7.0),
        (T.BOOL, True, True),
        (T.UUID, UUID.upper(), UUID),
        (T.UUID, UUID.replace("-", ""), UUID),
        (T.DATETIME, "2026-01-31T09:30:00Z", "2026-01-31T09:30:00.000000Z"),
        (T.DATETIME, "2026-01-31t09:30:00.5+02:00", "2026-01-31T07:30:00.500000Z"),
        (T.DATETIME, "0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        (T.STRING_LIST, ["a", "b"], ["a", "b"]),
        (T.STRING_LIST, [], []),
        (T.JSON, {"a": [1.0, None]}, {"a": [1.0, None]}),
        (T.JSON, None, None),
    ],
)
def test_values_are_kept_as_their_type_says(kind: PropertyType, given: Json, kept: Json) -> None:
    found = as_type(given, kind, "document.properties.p")
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (T.STRING, 1.0),
        (T.INT64, 1.5),
        (T.INT64, 2.0**54),
        (T.INT64, str(2**63)),
        (T.INT64, "12x"),
        (T.INT64, "１２"),
        (T.INT64, True),
        (T.FLOAT64, "1"),
        (T.FLOAT64, False),
        (T.BOOL, "true"),
        (T.BOOL, 1.0),
        (T.UUID, "a"),
        (T.UUID, 1.0),
        (T.DATETIME, "2026-01-31"),
        (T.DATETIME, "2026-01-31T09:30:00"),
        (T.DATETIME, "2026-02-31T09:30:00Z"),
        (T.DATETIME, "0001-01-01T00:00:00+14:00"),
        (T.DATETIME, 0.0),
        (T.STRING_LIST, "a"),
        (T.STRING_LIST, ["a", 1.0]),
        (T.STRING_LIST, {"a": "b"}),
    ],
)
def test_other_values_are_refused_by_their_path(kind: PropertyType, value: Json) -> None:
    with pytest.raises(InvalidArgument) as raised:
        check_properties({"p": value}, [PropertySchema("p", kind)], "document.properties")
    assert raised.value.field == "document.properties.p"


def test_a_required_property_must_be_there() -> None:
    schema = [PropertySchema("p", T.STRING, required=True)]
    for properties in ({}, {"p": None}, {"q": "a"}):
        with pytest.raises(MissingField) as raised:
            check_properties(properties, schema, "document.properties")
        assert raised.value.field == "document.properties.p"
    assert check_properties({"p": "a", "q": None}, schema, "f") == {"p": "a", "q": None}


@pytest.mark.parametrize(
    "properties",
    [
        {"a": "x\0"},
        {"a\0": "x"},
        {"a": [{"b\0": 1.0}]},
        {"a": math.nan},
        {"a": [math.inf]},
        {"a": "x" * (MOST_PROPERTY_BYTES + 1)},
    ],
)
def test_what_a_database_cannot_keep_is_refused(properties: dict[str, Json]) -> None:
    with pytest.raises(InvalidArgument):
        check_properties(properties, (), "document.properties")


@given(st.dictionaries(st.text(max_size=4), JSONS, max_size=4), st.sampled_from(list(T)))
def test_any_properties_are_kept_or_refused(
    properties: dict[str, Json], kind: PropertyType
) -> None:
    schema = [PropertySchema(name, kind) for name in list(properties)[:2]]
    try:
        kept = check_properties(properties, schema, "document.properties")
    except InvalidArgument as error:
        fault = error.field or ""
    else:
        fault = ""
        assert check_properties(kept, schema, "document.properties") == kept, "kept once, kept so"
    assert not fault or fault.startswith("document.properties")


def test_filters_compare_as_properties_are_kept() -> None:
    schema = [PropertySchema("n", T.INT64), PropertySchema("t", T.DATETIME)]

    def equal(name: str, value: Json) -> Filter:
        return Comparison(name, Operator.EQUAL, value)

    given = AllOf(
        (
            Not(equal("n", "9007199254740993")),
            AnyOf((equal("t", "2026-01-31T10:30:00+01:00"), equal("other", "9"))),
            Comparison("n", Operator.IN, (1.0, "2", "x")),
        )
    )
    assert as_kept(given, schema) == AllOf(
        (
            Not(equal("n", 9007199254740993)),
            AnyOf((equal("t", "2026-01-31T09:30:00.000000Z"), equal("other", "9"))),
            Comparison("n", Operator.IN, (1, 2, "x")),
        )
    )
