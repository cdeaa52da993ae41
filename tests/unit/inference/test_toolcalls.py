import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.toolcalls import (
    CallArguments,
    CallEnd,
    CallStart,
    HermesFormat,
    JsonEnd,
    Piece,
    tool_format,
)

NAMES = frozenset({"get_weather", "add"})
ARGUMENTS = '{"city": "P}ar\\"is", "n": [1]}'
CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>'
OTHER = '<tool_call>{"name":"add","arguments":{"a":1}}</tool_call>'


def parsed(text: str, cuts: list[int], forced: str = "") -> list[object]:
    """The text and calls that come out, with pieces of the same kind joined."""
    parser = HermesFormat().parser(NAMES, forced)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces: list[Piece] = []
    for start, end in itertools.pairwise(edges):
        pieces += parser.feed(text[start:end])
        assert 0 <= parser.held_length <= len(text)
    pieces += parser.flush()
    out: list[object] = []
    for piece in pieces:
        if isinstance(piece, str):
            if out and isinstance(out[-1], str):
                out[-1] += piece
            else:
                out.append(piece)
        elif isinstance(piece, CallStart):
            out.append([piece.name, ""])
        elif isinstance(piece, CallArguments):
            assert isinstance(out[-1], list)
            out[-1][1] += piece.text
    return out


FRAGMENTS = st.lists(
    st.sampled_from(
        [
            CALL,
            OTHER,
            "text ",
            "\n",
            "<tool_call>",
            "</tool_call>",
            "<tool",
            '{"name": "add"',
            "}",
            '{"arguments": {"a": 1}, "name": "add"}',
            '{"name": "no", "arguments": {}}',
            '"',
            "<",
        ]
    ),
    max_size=6,
).map("".join)


@given(FRAGMENTS, st.lists(st.integers(0, 300), max_size=12))
def test_the_split_into_tokens_makes_no_difference(text: str, cuts: list[int]) -> None:
    assert parsed(text, cuts) == parsed(text, [])


@given(FRAGMENTS, st.lists(st.integers(0, 300), max_size=12))
def test_nor_does_it_after_a_forced_opening(text: str, cuts: list[int]) -> None:
    assert parsed(text, cuts, "add") == parsed(text, [], "add")


@given(st.text(alphabet='ab<tol_ca>/{"}\n ', max_size=60))
def test_text_without_a_call_comes_out_whole(text: str) -> None:
    assert "".join(str(piece) for piece in parsed(text, [])) == text


def test_text_and_two_calls() -> None:
    assert parsed(f"Sure.\n{CALL}\n{OTHER}\n", []) == [
        "Sure.",
        ["get_weather", ARGUMENTS],
        ["add", '{"a":1}'],
    ]


def test_arguments_stream_before_the_call_is_complete() -> None:
    parser = HermesFormat().parser(NAMES)
    pieces = parser.feed('<tool_call>{"name": "add", "arguments": {"a": 1')
    assert pieces == [CallStart("add"), CallArguments('{"a": 1')]
    assert parser.feed("}}") == [CallArguments("}"), CallEnd()]


def test_parts_in_another_order_are_a_call() -> None:
    text = '<tool_call>{"arguments": {"a": 1}, "name": "add"}</tool_call>'
    assert parsed(text, []) == [["add", '{"a": 1}']]


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>not json</tool_call>",
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "add"}</tool_call>',
        '<tool_call>{"name": "add", "argum',
        '  <tool_call>{"name": 1, "arguments": {}}</tool_call> after',
    ],
)
def test_what_is_no_call_stays_text(text: str) -> None:
    assert "".join(str(piece) for piece in parsed(text, [])) == text


def test_a_forced_call_reads_on_from_its_opening() -> None:
    assert parsed(' {"a": 1}}\n</tool_call>', [], "add") == [["add", '{"a": 1}']]
    assert HermesFormat().opening("add").endswith('"name": "add", "arguments":')


@given(st.recursive(st.none() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
def test_json_end_is_where_the_value_ends(value: object) -> None:
    text = json.dumps({"v": value})
    assert JsonEnd().feed(text + "}} more") == len(text)
    scanner = JsonEnd()
    assert [scanner.feed(character) for character in text][-1] == 1


def test_models_without_tools_have_no_format() -> None:
    assert tool_format("{{ messages }} <tool_call>") is None
    assert tool_format("{{ tools }}") is None
    assert isinstance(tool_format("{{ tools }} <tool_call>"), HermesFormat)
