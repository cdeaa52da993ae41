"""Random JSON schemas of the subset that output can be held to."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "name", "two words", "ü", 'quo"te', "back\\slash", "$x", ""])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1000, 1000)
    | st.sampled_from([0.5, -2.25, 1e20])
    | st.sampled_from(["", "x", "é\n", '"', "\\", "/"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=3,
)


def _ranged(low: str, high: str, least: int, most: int) -> st.SearchStrategy[dict[str, int]]:
    def ordered(pair: tuple[int, int]) -> dict[str, int]:
        return {low: min(pair), high: max(pair)}

    number = st.integers(least, most)
    return st.one_of(
        st.just({}),
        number.map(lambda n: {low: n}),
        number.map(lambda n: {high: n}),
        st.tuples(number, number).map(ordered),
    )


STRINGS = st.one_of(
    _ranged("minLength", "maxLength", 0, 6),
    st.sampled_from(["^[a-c]{2,4}$", "[0-9]x", "^a|b$", "(ab)+", "^\\d{3}-\\w$"]).map(
        lambda pattern: {"pattern": pattern}
    ),
    st.sampled_from(["date", "uuid", "ipv4"]).map(lambda name: {"format": name}),
).map(lambda more: {"type": "string", **more})
NUMBERS = st.one_of(
    _ranged("minimum", "maximum", -50, 5000).map(lambda more: {"type": "integer", **more}),
    _ranged("exclusiveMinimum", "maximum", -3, 3).map(lambda more: {"type": "number", **more}),
    st.just({"type": "integer", "multipleOf": 5}),
)
LEAVES = st.one_of(
    STRINGS,
    NUMBERS,
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.lists(VALUES, min_size=1, max_size=3).map(lambda values: {"enum": values}),
    VALUES.map(lambda value: {"const": value}),
    st.just({"type": ["string", "null"], "maxLength": 3}),
)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    @st.composite
    def one(draw: st.DrawFn) -> dict[str, Any]:
        properties = draw(st.dictionaries(NAMES, inner, max_size=3))
        made: dict[str, Any] = {"type": "object", "properties": properties}
        if properties:
            made["required"] = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
        extra = draw(st.sampled_from([None, False, {"type": "null"}]))
        if extra is not None:
            made["additionalProperties"] = extra
        return made

    return one()


def _compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        _objects(inner),
        st.tuples(inner, _ranged("minItems", "maxItems", 0, 3)).map(
            lambda pair: {"type": "array", "items": pair[0], **pair[1]}
        ),
        st.lists(inner, min_size=1, max_size=2).map(lambda options: {"anyOf": options}),
        inner.map(lambda item: {"oneOf": [{"type": "array", "items": item}, {"type": "null"}]}),
        st.tuples(inner, inner).map(lambda two: {"prefixItems": list(two), "items": False}),
    )


def _referring(schema: Any) -> dict[str, Any]:
    reference = {"$ref": "#/$defs/d"}
    properties = {"one": reference, "many": {"type": "array", "items": reference, "maxItems": 2}}
    return {"$defs": {"d": schema}, "type": "object", "properties": properties}


_NESTED = st.recursive(LEAVES, _compound, max_leaves=6)
SCHEMAS = st.one_of(
    _NESTED,
    _NESTED.map(_referring),
    _NESTED.map(lambda made: {"allOf": [{"$ref": "#/$defs/d"}], "$defs": {"d": made}}),
)
