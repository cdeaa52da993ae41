"""Filters mean the same in every database, and what `filter_reference` says."""

from __future__ import annotations

import uuid

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.errors import InvalidArgument
from services.retrieval.records import (
    AllOf,
    AnyOf,
    Collection,
    Comparison,
    Filter,
    Lookup,
    Not,
    Operator,
    PropertySchema,
    PropertyType,
)
from tests.conformance.retrieval.filter_reference import is_refused, meets
from tests.conformance.retrieval.records_made import collection, compare, document, schema, vector

UUIDS = ["6f1f9d8e-3c57-4a53-9c89-1f2f0d3a5b01", "00000000-0000-0000-0000-00000000000f"]
INSTANTS = [
    "2026-01-31T09:30:00Z",
    "2026-01-31T10:30:00+01:00",
    "2026-01-31T09:30:00.000001Z",
    "0001-01-02T00:00:00Z",
    "9999-12-30T00:00:00-01:00",
]
TYPES = {
    "s": PropertyType.STRING,
    "i": PropertyType.INT64,
    "f": PropertyType.FLOAT64,
    "b": PropertyType.BOOL,
    "u": PropertyType.UUID,
    "t": PropertyType.DATETIME,
    "l": PropertyType.STRING_LIST,
}
NAMES = [*TYPES, 'un"\\%', "ü.x y", "id", "title", "source_uri"]

texts = st.one_of(
    st.sampled_from(["", "a", "A", "ab", "aB%", "ä", "Ä", "ß", "10", "9", "\\", "a_b", "\n", "🙂"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4),
)
patterns = st.one_of(
    texts, st.text(st.sampled_from("aAbBäÄß%_\\1"), max_size=5), st.just("%" * 30 + "a")
)
whole = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**53, 2**53 + 1, 2**63 - 1]),
)
numbers = st.one_of(
    whole,
    st.sampled_from([0.1, -0.0, 1.0, 2.5, float(2**53), 1e16 + 2, 1e22, 1e23, 9.3e18]),
    st.floats(allow_nan=False, allow_infinity=False),
)
lists = st.lists(texts, max_size=3)
uuids = st.sampled_from([*UUIDS, UUIDS[0].upper(), UUIDS[0].replace("-", ""), f"{{{UUIDS[1]}}}"])
typed: dict[str, st.SearchStrategy] = {
    "s": texts,
    "i": st.one_of(whole, whole.map(str), st.integers(-3, 3).map(float)),
    "f": numbers,
    "b": st.booleans(),
    "u": uuids,
    "t": st.sampled_from(INSTANTS),
    "l": lists,
    "id": texts,
    "title": texts,
    "source_uri": texts,
}
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts, whole.map(str), uuids),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["x", 'y"', "z"]), inner)
    ),
    max_leaves=4,
)


def values_of(name: str) -> st.SearchStrategy:
    return st.one_of(typed.get(name, anything), typed.get(name, anything), anything)


@st.composite
def comparisons(draw, tame: bool) -> Comparison:
    """Compares a property; if tame, with what its type takes."""
    name = draw(st.sampled_from(NAMES))
    operator = draw(st.sampled_from(Operator))
    values = typed.get(name, anything) if tame else values_of(name)
    match operator:
        case Operator.IN | Operator.NOT_IN:
            return Comparison(name, operator, draw(st.lists(values, max_size=3)))
        case Operator.LIKE | Operator.ILIKE:
            return Comparison(name, operator, draw(patterns if tame else anything))
        case Operator.CONTAINS:
            inner = texts if name == "l" else anything
            return Comparison(name, operator, draw(inner))
        case _:
            return Comparison(name, operator, draw(values))


def filters(tame: bool) -> st.SearchStrategy[Filter]:
    return st.recursive(
        comparisons(tame),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda parts: AllOf(tuple(parts))),
            st.lists(inner, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
            inner.map(Not),
        ),
        max_leaves=3,
    )


@st.composite
def properties(draw) -> dict:
    names = draw(st.sets(st.sampled_from(NAMES[:9])))
    # Some are of another type than declared: they were stored before the declaration.
    return {name: draw(values_of(name)) for name in names}


@settings(
    max_examples=12,  # for each of four kinds, two of which ask the same database
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
async def test_generated_filters(store, kind, data):
    schemas = tuple(PropertySchema(name, type) for name, type in TYPES.items())
    tenant = uuid.uuid4().hex
    made = await store.create_collection(collection(tenant, properties=schemas))
    ids = data.draw(st.sets(texts.filter(bool), min_size=1, max_size=6))
    news = [document(id, properties=data.draw(properties()), title=data.draw(texts)) for id in ids]
    await store.put_documents(made.uid, news)
    everything = [data.draw(filters(tame=True)) for _ in range(8)]
    everything += [data.draw(filters(tame=False)) for _ in range(4)]
    for asked in everything:
        lookup = Lookup(100, vector(1, 0, 0, 0), filter=asked)
        refused = any(is_refused(one, TYPES) for one in leaves(asked))
        if refused:
            with pytest.raises(InvalidArgument):
                await store.search(made, lookup)
            continue
        wanted = sorted(new.id for new in news if meets(new, asked, TYPES))
        found = sorted(hit.document for hit in await store.search(made, lookup))
        assert found == wanted, asked


def leaves(filter: Filter) -> list[Comparison]:
    match filter:
        case Comparison():
            return [filter]
        case Not():
            return leaves(filter.filter)
        case AllOf() | AnyOf():
            return [leaf for part in filter.filters for leaf in leaves(part)]


ROWS = {
    "all": {"s": "Zürich_1", "i": 7, "f": 0.5, "b": True, "t": INSTANTS[0], "l": ["a", "B"]},
    "digits": {"i": "9007199254740993", "s": "zÜRICH%1", "free": [1, "a", None, [2]]},
    "odd": {"i": "seven", "t": "yesterday", "free": {"b": 1, "a": 2.0}, "s": 5},
    "none": {},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rows(module_store) -> Collection:
    """A collection that tests only read."""
    schemas = schema(
        i="INT64", f="FLOAT64", b="BOOL", t="DATETIME", s="STRING", l="STRING_LIST", j="JSON"
    )
    made = await module_store.create_collection(collection(uuid.uuid4().hex, properties=schemas))
    news = [document(id, properties=properties) for id, properties in ROWS.items()]
    await module_store.put_documents(made.uid, news)
    return made


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (compare("i", "GREATER", 9007199254740992), "digits"),
        (compare("i", "EQUAL", "7"), "all"),
        (compare("i", "NOT_EQUAL", 7), "digits odd none"),
        (compare("i", "NOT_IN", []), "all digits odd none"),
        (compare("i", "IN", []), ""),
        (compare("f", "LESS_OR_EQUAL", 0.5), "all"),
        (Not(compare("f", "LESS_OR_EQUAL", 0.5)), "digits odd none"),
        (compare("b", "NOT_EQUAL", False), "all digits odd none"),
        (compare("t", "EQUAL", "2026-01-31T10:30:00+01:00"), "all"),
        (compare("t", "LESS", "2026-01-31T09:30:00.1Z"), "all"),
        (compare("s", "LIKE", "Z%\\_1"), "all"),
        (compare("s", "LIKE", "z%"), "digits"),
        (compare("s", "ILIKE", "zü_ich%1"), "all digits"),
        (compare("s", "ILIKE", "ZÜRICH\\%%"), "digits"),
        (compare("s", "LIKE", "%\\"), ""),
        (compare("l", "CONTAINS", "B"), "all"),
        (compare("l", "EQUAL", ["a", "B"]), "all"),
        (compare("l", "IN", [["x"], ["a", "B"]]), "all"),
        (compare("free", "CONTAINS", None), "digits"),
        (compare("free", "CONTAINS", [2.0]), "digits"),
        (compare("free", "EQUAL", {"a": 2, "b": 1.0}), "odd"),
        (compare("free", "LESS", {"a": 2}), ""),
        (compare("unknown", "EQUAL", None), ""),
        (compare("unknown", "NOT_EQUAL", None), "all digits odd none"),
        (compare("id", "GREATER", "none"), "odd"),
        (compare("title", "ILIKE", "TITLE OF A%"), "all"),
        (compare("source_uri", "EQUAL", "file:///odd"), "odd"),
        (AllOf(()), "all digits odd none"),
        (AnyOf(()), ""),
        (AnyOf((compare("b", "EQUAL", True), compare("i", "IN", [1, 2]))), "all"),
        (AllOf((compare("b", "EQUAL", True), compare("i", "IN", [1, 2]))), ""),
        (compare("s", "EQUAL", "' OR 1=1 --"), ""),
    ],
)
async def test_what_filters_find(store, rows, asked, wanted):
    hits = await store.search(rows, Lookup(9, vector(1, 0, 0, 0), filter=asked))
    assert {hit.document for hit in hits} == set(wanted.split())


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (compare("i", "EQUAL", 1.5), "filter.comparison.value"),
        (compare("i", "EQUAL", "9223372036854775808"), "filter.comparison.value"),
        (compare("i", "EQUAL", True), "filter.comparison.value"),
        (Not(compare("i", "IN", [1, "x"])), "filter.not.comparison.value"),
        (
            AllOf((compare("i", "IN", [1]), AnyOf((compare("i", "IN", 1),)))),
            "filter.all_of.filters[1].any_of.filters[0].comparison.value",
        ),
        (compare("b", "LESS", True), "filter.comparison.operator"),
        (compare("t", "EQUAL", "2026-02-30T00:00:00Z"), "filter.comparison.value"),
        (compare("t", "LIKE", "2026%"), "filter.comparison.operator"),
        (compare("j", "EQUAL", 1), "filter.comparison.property"),
        (compare("title", "EQUAL", 1), "filter.comparison.value"),
        (compare("unknown", "LIKE", 1), "filter.comparison.value"),
        (
            AnyOf(tuple(compare("i", "EQUAL", at) for at in range(401))),
            "filter.any_of.filters[400].comparison",
        ),
    ],
)
async def test_filters_that_are_refused(store, rows, asked, field):
    with pytest.raises(InvalidArgument) as refused:
        await store.search(rows, Lookup(9, vector(1, 0, 0, 0), filter=asked))
    assert refused.value.field == field


async def test_filters_as_large_as_they_may_be(store, tenant):
    made = await store.create_collection(collection(tenant))
    news = [document(f"d{at}", properties={"n": at}) for at in range(3)]
    await store.put_documents(made.uid, news)
    wide = AnyOf(tuple(compare("n", "EQUAL", at) for at in range(1, 399)))
    deep: Filter = compare("n", "GREATER", 1)
    for _ in range(16):
        deep = AllOf((AnyOf((Not(Not(deep)),)),))
    many = compare("n", "IN", list(range(2, 20_000)))
    for asked in (AllOf((wide, deep)), many):
        hits = await store.search(made, Lookup(9, vector(1, 0, 0, 0), filter=asked))
        assert [hit.document for hit in hits] == ["d2"]
