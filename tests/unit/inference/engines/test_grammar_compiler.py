"""Forms compile to what they say, and hostile ones are refused by their path."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import InvalidArgument, Unavailable
from services.inference.engine import Grammar, GrammarKind, Tag
from services.inference.engines.grammar_compiler import GrammarCompiler
from tests.unit.inference.engines.grammar_walk import (
    EOS,
    MARK,
    PARAMS,
    VOCABULARY,
    compiler,
    read,
    takes,
)

JSON, REGEX, GBNF = GrammarKind.JSON_SCHEMA, GrammarKind.REGEX, GrammarKind.GBNF


def check(grammar: Grammar, good: list[str], bad: list[str]) -> None:
    async def run() -> None:
        with compiler() as made:
            form = await made.compile(grammar)
            assert [text for text in good if not takes(form, text)] == []
            assert [text for text in bad if takes(form, text)] == []

    asyncio.run(run())


def refusal(grammar: Grammar) -> InvalidArgument:
    async def run() -> None:
        with compiler() as made:
            await made.compile(grammar)

    with pytest.raises(InvalidArgument) as caught:
        asyncio.run(run())
    assert caught.value.field is not None
    assert f"'{caught.value.field}'" in caught.value.message
    return caught.value


def schema(document: object, **more: Any) -> Grammar:
    return Grammar(JSON, json.dumps(document), **more)


CLOSED = {"type": "object", "properties": {"a": {"type": "integer"}}}

FORMS: dict[str, tuple[Grammar, list[str], list[str]]] = {
    "json object": (
        Grammar(GrammarKind.JSON_OBJECT),
        ["{}", '{"a": [1, null, "x"]}', '{"a":{}}', '{\n  "a": 1\n}'],
        ["[]", "1", "{", '{"a"}', '{"a":1}}', '{   "a":1}', "{\n\n}", ""],
    ),
    "open schema": (
        schema(CLOSED),
        ["{}", '{"a": 1}', '{"b": 1}', '{"a":1,"b":[]}'],
        ['{"a": "x"}', '{"a":1,"a":1}'],
    ),
    "strict schema": (
        schema(CLOSED, strict=True),
        ['{"a": 1}'],
        ["{}", '{"b": 1}', '{"a":1,"b":2}'],
    ),
    "strict inside": (
        schema({"anyOf": [CLOSED, {"type": "array", "items": CLOSED}]}, strict=True),
        ['{"a":1}', '[{"a":1}]', "[]"],
        ["{}", "[{}]"],
    ),
    "annotations": (
        schema({"title": "T", "type": "string", "x-guidance": {"lenient": True}, "default": "d"}),
        ['"x"'],
        ["1", '{"lenient":1}'],
    ),
    "references": (
        schema(
            {
                "$defs": {"n": {"type": "object", "properties": {"next": {"$ref": "#/$defs/n"}}}},
                "$ref": "#/$defs/n",
            }
        ),
        ["{}", '{"next": {"next": {}}}'],
        ['{"next": 1}'],
    ),
    "slashes": (Grammar(REGEX, 'a/b\n"[/]'), ['a/b\n"/'], ["a/b"]),
    "empty regex": (Grammar(REGEX, "^"), [""], ["^", "a"]),
    "anchors": (Grammar(REGEX, "^(a|b)$"), ["a", "b"], ["", "ab", "$"]),
    "recursion at the end": (
        Grammar(GBNF, 'root ::= "a" ws "b"\nws ::= ([ \\n] ws)?'),
        ["ab", "a \n b"],
        ["a", "a\tb"],
    ),
    "longest reading in one lexeme": (
        Grammar(GBNF, 'root ::= x\nx ::= [a-z]* "abc" | "(" x ")"'),
        ["abc", "zabcabc", "((qabc))"],
        ["ab", "(abc"],
    ),
    "classes": (
        Grammar(GBNF, r'root ::= [^"\\\x7F\x00-\x1F] [\]\-a] [äöü] "\"" [+-]'),
        ['x]ä"-', 'é-ö"+'],
        ['"]ä"-', 'x]a"-', 'xbä"-'],
    ),
    "comments and lines": (
        Grammar(GBNF, '# one\nroot ::= (\n  "a" # two\n  | b\n)\n  | "c"\nb ::= "b"{2,3}\n'),
        ["a", "bb", "bbb", "c"],
        ["b", "bbbb"],
    ),
    "left recursion": (
        Grammar(GBNF, 'root ::= root "+" n | n\nn ::= [0-9]+'),
        ["1", "1+22+3"],
        ["1+", "+1"],
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str) -> None:
    check(*FORMS[name])


TAGS = (
    Tag("<call>w ", "</call>", json.dumps(CLOSED), True, "tools[0].parameters_json"),
    Tag("<call>t ", "</call>", "", False, "tools[1].parameters_json"),
)
W, T = '<call>w {"a":1}</call>', '<call>t {"x":[]}</call>'
CALLS = Grammar(GrammarKind.TOOLS, tags=TAGS, separator="\n", trigger="<call>", several=True)
ONE = replace(CALLS, several=False)
TOOL_FORMS: dict[str, tuple[Grammar, list[str], list[str]]] = {
    "required": (
        replace(CALLS, required=True),
        [W, T, f"{W}\n{T}\n{W}"],
        ["", "x", W + T, f"{W}\n", f" {W}", W.replace("1", '"1"'), T.replace("{", "[")],
    ),
    "required one": (replace(ONE, required=True), [W, T], ["", f"{W}\n{T}"]),
    "free text": (
        CALLS,
        ["", "hello <cal", W, f"so {W} and {T}.", f"{W}\n{T}", "a < b </call>"],
        ["<call>", "<call>x", "so <call>w {}</call>", "<call>t []</call>", f"{W}<call>"],
    ),
    "free text, one call": (ONE, ["", "hello", f"so {W}"], ["<call>", f"{W}\n{T}", f"{W}."]),
    "own form of answers": (
        replace(CALLS, text=Grammar(REGEX, "a/[0-9]")),
        ["a/1", W, f"{W}\n{T}"],
        ["", "a", f"a/1{W}", "b"],
    ),
    "GBNF beside calls": (
        replace(CALLS, text=Grammar(GBNF, 'root ::= "(" root? ")"')),
        ["(())", W],
        ["(", ""],
    ),
    "JSON beside calls": (
        replace(CALLS, text=schema(CLOSED, strict=True)),
        ['{"a": 1}', W],
        ["{}", ""],
    ),
    "nothing marks calls": (
        replace(
            CALLS,
            trigger="",
            separator="; ",
            tags=(Tag('{"name": "w", "parameters": ', "}", json.dumps(CLOSED), True),),
        ),
        ["", "hello {", '{"name": "w", "parameters": {"a":1}}'],
        ["{", " {", '{"name": "w", "parameters": {}}'],
    ),
}


@pytest.mark.parametrize("name", TOOL_FORMS)
def test_tool_forms(name: str) -> None:
    check(*TOOL_FORMS[name])


async def test_special_tokens_in_frames_are_those_tokens() -> None:
    for grammar in (
        Grammar(GrammarKind.TOOLS, tags=(Tag("<mark>f", "<mark>!"),), required=True),
        Grammar(GrammarKind.TOOLS, tags=(Tag("<mark>f", "<mark>!"),), trigger="<mark>"),
    ):
        with compiler() as made:
            form = await made.compile(grammar)
            assert takes(form, [MARK, *b"f{}", MARK, ord("!")])
            assert not takes(form, "<mark>f{}<mark>!") or not grammar.required
            assert not takes(form, [MARK, *b"g{}", MARK, ord("!")])
            text = await made.compile(Grammar(REGEX, "(?s:.)*"))
            assert read(text, [ord("a"), MARK]) == 1
            assert read(text, [ord("a"), 258]) == 1  # a token without bytes says nothing


UNSATISFIABLE = {"type": "object", "properties": {"b": False}, "required": ["b"]}
REFUSED: list[tuple[Grammar, str]] = [
    (schema({"type": "object", "properties": {"a": {"not": {}}}}), "guide.properties.a.not"),
    (schema({"properties": {"x y": {"if": {}}}}), 'guide.properties["x y"].if'),
    (schema({"items": [{"type": "string"}]}), "guide.items"),
    (schema({"anyOf": [{}, {"uniqueItems": True}]}), "guide.anyOf[1].uniqueItems"),
    (schema({"anyOf": []}), "guide.anyOf"),
    (schema({"type": "strin"}), "guide.type"),
    (schema({"format": "int32"}), "guide.format"),
    (schema({"$ref": "#/$defs/a"}), "guide.$ref"),
    (schema({"$ref": "http://example.com/x"}), "guide.$ref"),
    (schema({"$ref": "#"}), "guide"),
    (schema({"enum": []}), "guide.enum"),
    (schema({"minLength": -1}), "guide.minLength"),
    (schema({"minItems": 10**6}), "guide.minItems"),
    (schema({"maximum": 10**30}), "guide.maximum"),
    (schema({"multipleOf": 1000003}), "guide.multipleOf"),
    (schema({"multipleOf": 0}), "guide.multipleOf"),
    (schema({"minProperties": 2}), "guide.minProperties"),
    (schema({"pattern": "(a{1000}){1000}"}), "guide.pattern"),
    (schema({"pattern": "(?=a)"}), "guide"),
    (schema({"properties": {"p": {"pattern": "a(?=b)"}}}), "guide.properties.p"),
    (schema({"patternProperties": {"[": {}}}), "guide"),
    (schema({"items": {"oneOf": [{"type": "string"}, {"minLength": 1}]}}), "guide.items"),
    (
        schema({"type": "object", "required": ["a"], "properties": {"a": UNSATISFIABLE}}),
        "guide.properties.a",
    ),
    (schema(False), "guide"),
    (schema("x"), "guide"),
    (schema({"properties": {f"p{i}": {} for i in range(1001)}}), "guide.properties"),
    (schema({"enum": list(range(10001))}), "guide.enum"),
    (Grammar(JSON, "{"), "guide"),
    (Grammar(JSON, '{"minimum": NaN}'), "guide"),
    (Grammar(JSON, "[" * 100_000), "guide"),
    (Grammar(JSON, '{"items":' * 70 + "{}" + "}" * 70), "guide" + ".items" * 65),
    (schema({**CLOSED, "additionalProperties": True}, strict=True), "guide.additionalProperties"),
    (schema({"items": {**CLOSED, "required": []}}, strict=True), "guide.items.required"),
    (Grammar(REGEX, "(", field="guide.regex"), "guide.regex"),
    (Grammar(REGEX, "a\\"), "guide"),
    (Grammar(REGEX, "(a{1000}){1000}"), "guide"),
    (Grammar(REGEX, "a{99999999}"), "guide"),
    (Grammar(REGEX, "(" * 1000 + ")" * 1000), "guide"),
    (Grammar(REGEX, r"(a)\1"), "guide"),
    (Grammar(REGEX, "[^\\x00-\\x{10FFFF}]"), "guide"),
    (Grammar(GBNF, "root ::= root"), "guide"),
    (Grammar(GBNF, "root ::= ("), "guide"),
    (Grammar(GBNF, "(" * 100_000), "guide"),
    (Grammar(GBNF, 'root ::= "a"' + "*" * 100_000), "guide"),
    (Grammar(GBNF, 'root ::= ("a"{9999}){9999}'), "guide"),
    (Grammar(REGEX, "x" * (2**20 + 1)), "guide"),
    (
        replace(CALLS, tags=(replace(TAGS[0], schema='{"type":"string"}'),)),
        "tools[0].parameters_json.type",
    ),
    (
        replace(CALLS, tags=(TAGS[1], replace(TAGS[0], schema='{"properties":{"a":{"not":{}}}}'))),
        "tools[0].parameters_json.properties.a.not",
    ),
    (replace(CALLS, text=schema({"not": {}}, field="guide.json_schema")), "guide.json_schema.not"),
]


@pytest.mark.parametrize(("grammar", "path"), REFUSED, ids=lambda value: str(value)[:60])
def test_refusals_name_the_construct(grammar: Grammar, path: str) -> None:
    assert refusal(grammar).field == path


def test_lines_of_gbnf_are_named() -> None:
    assert "line 3" in refusal(Grammar(GBNF, 'root ::= a\n\na := "x"')).message


LETTERS = st.sampled_from(
    [
        "a",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "*",
        "+",
        "?",
        "|",
        "\\",
        "^",
        "$",
        ".",
        "-",
        ",",
        "/",
        '"',
        "\n",
        "#",
        " ",
        "::=",
        "root",
        "1",
        "999999",
        "\\w",
        "\\p{L}",
        "(?i)",
        "&",
        "~",
        "%",
        "<",
        "😀",
        "\x00",
    ]
)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["object", "string", "#", "#/$defs/a", "a{1000}", "(", "date"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "properties",
                    "items",
                    "anyOf",
                    "oneOf",
                    "allOf",
                    "$ref",
                    "$defs",
                    "enum",
                    "const",
                    "minLength",
                    "maxLength",
                    "pattern",
                    "format",
                    "required",
                    "minItems",
                    "maxItems",
                    "multipleOf",
                    "minimum",
                    "exclusiveMaximum",
                    "additionalProperties",
                    "patternProperties",
                    "prefixItems",
                    "minProperties",
                    "x-guidance",
                    "a",
                    "not",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
HOSTILE = st.one_of(
    st.builds(Grammar, st.sampled_from([REGEX, GBNF]), st.lists(LETTERS, max_size=40).map("".join)),
    st.builds(Grammar, st.sampled_from([REGEX, GBNF, JSON]), st.text(max_size=30)),
    st.builds(
        Grammar,
        st.just(GBNF),
        st.lists(LETTERS, max_size=30).map(lambda parts: "root ::= " + " ".join(parts)),
    ),
    st.builds(lambda value, strict: schema(value, strict=strict), JSON_VALUES, st.booleans()),
)


def test_hostile_forms_are_refused_or_followed() -> None:
    """Whatever comes: a form that can be followed for some tokens, or InvalidArgument."""
    with compiler() as made:

        async def run(grammar: Grammar) -> None:
            try:
                form = await made.compile(grammar)
            except InvalidArgument as error:
                path = error.field or ""
            else:
                path = "guide"
                follow(form)
            assert path.startswith("guide")

        @settings(max_examples=300, deadline=None)
        @given(HOSTILE)
        def check_one(grammar: Grammar) -> None:
            asyncio.run(run(grammar))

        check_one()


def follow(form: Any) -> None:
    """Takes the first token that may come, a few times."""
    state = form.follow([], PARAMS)
    for _ in range(6):
        try:
            blocked = state.blocked()
        except InvalidArgument:
            return
        token = int((~blocked).argmax())
        assert not blocked[token]
        if token == EOS:
            return
        state.note(token)


SIMPLE = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "[^a]", "."]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}"])).map(
            lambda two: f"({two[0]}){two[1]}"
        ),
    ),
    max_leaves=6,
)


def test_regexes_mean_what_python_means_by_them() -> None:
    with compiler() as made:

        @settings(max_examples=150, deadline=None)
        @given(SIMPLE, st.lists(st.text("abc", max_size=6), min_size=4, max_size=4))
        def check_one(pattern: str, texts: list[str]) -> None:
            form = asyncio.run(made.compile(Grammar(REGEX, pattern)))
            for text in texts:
                assert takes(form, text) == bool(re.fullmatch(pattern, text))

        check_one()


async def test_the_state_can_be_made_anew_anywhere() -> None:
    text = b'{"a": 1, "b": [{}, "\xc3\xa9"]}'
    with compiler() as made:
        form: Any = await made.compile(Grammar(GrammarKind.JSON_OBJECT))
        state = form.follow([], PARAMS)
        for place, token in enumerate(text):
            anew = form.follow(list(text[:place]), PARAMS)
            assert (anew.blocked() == state.blocked()).all()
            state.note(token)


async def test_what_was_made_is_kept_within_bounds() -> None:
    with compiler() as made:
        first: Any = await made.compile(Grammar(REGEX, "first"))
        again: Any = await made.compile(Grammar(REGEX, "first", field="other"))
        assert again.matcher is first.matcher
        for number in range(300):
            await made.compile(Grammar(REGEX, f"x{number}"))
        assert len(made._kept) <= 256
        anew: Any = await made.compile(Grammar(REGEX, "first"))
        assert anew.matcher is not first.matcher


async def test_a_closed_compiler_says_so() -> None:
    made = GrammarCompiler(VOCABULARY)
    made.close()
    with pytest.raises(Unavailable):
        await made.compile(Grammar(REGEX, "a"))
