"""Calls in the text of every family, however the text is cut."""

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.inference.toolcalls import (
    FORMATS,
    CallArguments,
    CallEnd,
    CallStart,
    Piece,
    ToolFormat,
    tool_format,
)
from services.inference.toolformats.hermes import HermesFormat
from services.inference.toolformats.llama import LlamaFormat
from services.inference.toolformats.mistral import MISTRAL_FORMATS, MistralFormat
from services.inference.toolformats.scanning import BLANK_LIMIT, WHOLE_LIMIT, JsonEnd
from tests.unit.inference import family_templates

NAMES = frozenset({"get_weather", "add", "add_all"})
ARGUMENTS = '{"city": "P}ar\\"is", "n": [1]}'
HERMES_CALL = f'<tool_call>\n{{"name": "get_weather", "arguments": {ARGUMENTS}}}\n</tool_call>'
HERMES_OTHER = '<tool_call>{"name":"add","arguments":{"a":1}}</tool_call>'
LLAMA_CALL = f'{{"name": "get_weather", "parameters": {ARGUMENTS}}}'
LLAMA_OTHER = '{"type":"function","name":"add","parameters":{"a":1},"id":"}"}'
LIST_CALL = f'{{"name": "get_weather", "arguments": {ARGUMENTS}}}'
LIST_OTHER = '{"name":"add","arguments":{"a":1}, "id": "abcdefgh1"}'
UNUSUAL = '{"arguments": {"a": 1}, "name": "add"}'
UNKNOWN = '{"name": "no", "arguments": {}}'

FAMILIES: dict[str, ToolFormat] = {
    "hermes": HermesFormat(),
    "llama": LlamaFormat(),
    "mistral": MISTRAL_FORMATS[0],
    "mistral list": MISTRAL_FORMATS[1],
}
COMMON = ["text ", "\n", " ", '"', "}", "{", ",", ":", "name", UNUSUAL, UNKNOWN, "\u00a0", "é"]
PARTS: dict[str, list[str]] = {
    "hermes": [
        *(HERMES_CALL, HERMES_OTHER, "<tool_call>", "</tool_call>", "<tool", "<"),
        *(f"<tool_call>{UNUSUAL}</tool_call>", '{"name": "add"'),
    ],
    "llama": [
        *(LLAMA_CALL, LLAMA_OTHER, "<|python_tag|>", "<|python", ";", "; "),
        *('{"name": "add', '_all", "parameters": ', '{"type": "function", ', "{}"),
    ],
    "mistral": [
        *("[TOOL_CALLS]", "[TOOL_", "add[ARGS]", "[ARGS]", "[", "]", '{"a": 1}', LIST_CALL),
        *("get_weather[CALL_ID]a1B2c3D4e[ARGS]", ARGUMENTS, "add_all", LIST_OTHER, "[CALL_ID]"),
    ],
}
PARTS["mistral list"] = PARTS["mistral"]
CUTS = st.lists(st.integers(0, 300), max_size=12)
FAMILY = pytest.mark.parametrize("family", FAMILIES)


def texts(family: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(PARTS[family] + COMMON), max_size=8).map("".join)


def parsed(
    family: ToolFormat, text: str, cuts: Sequence[int] = (), forced: str = ""
) -> list[object]:
    """The text and calls that come out, with pieces of the same kind joined."""
    parser = family.parser(NAMES, forced)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces: list[Piece] = []
    for start, end in itertools.pairwise(edges):
        pieces += parser.feed(text[start:end])
        assert 0 <= parser.held_length <= end
    pieces += parser.flush()
    assert parser.held_length == 0
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


def one_by_one(text: str) -> range:
    return range(1, len(text))


@FAMILY
@given(data=st.data(), cuts=CUTS)
@settings(deadline=None)
def test_the_split_into_tokens_makes_no_difference(
    family: str, data: st.DataObject, cuts: list[int]
) -> None:
    text = data.draw(texts(family))
    whole = parsed(FAMILIES[family], text)
    assert parsed(FAMILIES[family], text, cuts) == whole
    assert parsed(FAMILIES[family], text, one_by_one(text)) == whole


@FAMILY
@given(data=st.data(), cuts=CUTS)
@settings(deadline=None)
def test_nor_does_it_after_a_forced_opening(
    family: str, data: st.DataObject, cuts: list[int]
) -> None:
    text = data.draw(texts(family))
    whole = parsed(FAMILIES[family], text, forced="add")
    assert parsed(FAMILIES[family], text, cuts, "add") == whole
    assert parsed(FAMILIES[family], text, one_by_one(text), "add") == whole


@FAMILY
@pytest.mark.parametrize("blanks", [BLANK_LIMIT - 1, BLANK_LIMIT + 5, 1020, 1024, 1030])
def test_nor_do_long_runs_of_blanks(family: str, blanks: int) -> None:
    before, after = FAMILIES[family].frame("add")
    call = before + "{}" + after
    for text in (
        " " * blanks + call,
        call + "\n" * blanks + call,
        "a" + " " * blanks + call.replace("{", "{" + " " * blanks),
        "\n".join(before[:1] + " " * blanks + before[1:]),
    ):
        whole = parsed(FAMILIES[family], text)
        assert parsed(FAMILIES[family], text, one_by_one(text)) == whole


@FAMILY
@given(text=st.text(alphabet='ab<tol_ca>/{"}[]|;:, \nname', max_size=60))
@example(text=' {"name": "add", "parameters": ')
@settings(deadline=None)
def test_text_without_a_call_comes_out_whole(family: str, text: str) -> None:
    assert "".join(map(str, parsed(FAMILIES[family], text, one_by_one(text)))) == text


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.just("a </tool_call> b"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=3).map(json.dumps)
CALLS = st.lists(st.tuples(st.sampled_from(sorted(NAMES)), OBJECTS), min_size=1, max_size=4)


@FAMILY
@pytest.mark.parametrize("forced", ["", "add"])
@given(calls=CALLS)
@settings(deadline=None, max_examples=50)
def test_frames_are_read_back(family: str, forced: str, calls: list[tuple[str, str]]) -> None:
    """What guided decoding writes between the frames of calls are exactly those calls."""
    written = FAMILIES[family]
    if forced:
        calls = [(forced, calls[0][1]), *calls[1:]]
    parts = [
        before + arguments + after
        for name, arguments in calls
        for before, after in [written.frame(name)]
    ]
    text = written.separator.join(parts)
    if forced:
        assert text.startswith(written.opening(forced))
        text = text.removeprefix(written.opening(forced))
    assert parsed(written, text, one_by_one(text), forced) == [list(call) for call in calls]


WEATHER, ADD = ["get_weather", ARGUMENTS], ["add", '{"a":1}']
UNUSUAL_ADD = ["add", '{"a": 1}']
CALLS: list[tuple[str, str, list[object]]] = [
    ("hermes", f"Sure.\n{HERMES_CALL}\n{HERMES_OTHER}\n", ["Sure.", WEATHER, ADD]),
    ("hermes", f"<tool_call>{UNUSUAL}</tool_call>", [UNUSUAL_ADD]),
    ("llama", LLAMA_CALL, [WEATHER]),
    ("llama", f"\n<|python_tag|>{LLAMA_CALL}", [WEATHER]),
    ("llama", f"{LLAMA_CALL}; {LLAMA_OTHER}", [WEATHER, ADD]),
    ("llama", f"{LLAMA_CALL}\n{LLAMA_OTHER};", [WEATHER, ADD]),
    ("llama", f"{LLAMA_CALL};<|python_tag|>{LLAMA_OTHER}\n", [WEATHER, ADD]),
    ("llama", f"Look: <|python_tag|>{LLAMA_CALL}\nDone.", ["Look:", WEATHER, "Done."]),
    ("llama", '{"name": "add", "arguments": {}}', [["add", "{}"]]),
    ("mistral", f"[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}", [WEATHER]),
    (
        "mistral",
        f'Sure. [TOOL_CALLS]get_weather[CALL_ID]a1[ARGS]{ARGUMENTS}[TOOL_CALLS]add{{"a":1}}',
        ["Sure.", WEATHER, ADD],
    ),
    ("mistral", '[TOOL_CALLS]add_all[ARGS] {"a": 1} ok', [["add_all", '{"a": 1}'], "ok"]),
    ("mistral", f"[TOOL_CALLS] [{LIST_CALL}, {LIST_OTHER}]", [WEATHER, ADD]),
    ("mistral list", f"[TOOL_CALLS][{LIST_OTHER},{UNUSUAL}] ok", [ADD, UNUSUAL_ADD, "ok"]),
    ("mistral list", f"[TOOL_CALLS][{LIST_OTHER}][TOOL_CALLS][{LIST_CALL}]", [ADD, WEATHER]),
    ("mistral list", f"[TOOL_CALLS][{LIST_OTHER}, {UNKNOWN}]", [ADD, f", {UNKNOWN}]"]),
]


@pytest.mark.parametrize(("family", "text", "expected"), CALLS)
def test_calls(family: str, text: str, expected: list[object]) -> None:
    assert parsed(FAMILIES[family], text) == expected
    assert parsed(FAMILIES[family], text, one_by_one(text)) == expected


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("hermes", "<tool_call>not json</tool_call>"),
        ("hermes", '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "add"}</tool_call>'),
        ("hermes", '<tool_call>{"name": "add", "argum'),
        ("hermes", '  <tool_call>{"name": 1, "arguments": {}}</tool_call> after'),
        ("llama", '{"name": "unknown", "parameters": {}}'),
        ("llama", '{"name": "add", "value": 1}'),
        ("llama", '{"name": "add", "parameters": []}'),
        ("llama", '{"name": "add'),
        ("llama", f"Here is JSON: {LLAMA_CALL}"),
        ("llama", "<|python_tag|>print(1)\n"),
        ("mistral", "[TOOL_CALLS]unknown[ARGS]{}"),
        ("mistral", "[TOOL_CALLS] []"),
        ("mistral", '[TOOL_CALLS][{"name": "unknown", "arguments": {"a": 1}}]'),
        ("mistral", '[TOOL_CALLS][{"name": 1, "arguments": {}}, 2] after'),
        ("mistral", "[TOOL_CALLS]add_al"),
        ("mistral list", " [TOOL_CALLS][ "),
    ],
)
def test_what_is_no_call_stays_text(family: str, text: str) -> None:
    assert "".join(map(str, parsed(FAMILIES[family], text, one_by_one(text)))) == text


@pytest.mark.parametrize(
    ("family", "text", "name", "first"),
    [
        ("hermes", '<tool_call>{"name": "add", "arguments": {"a": 1', "add", '{"a": 1'),
        ("llama", '{"name": "add", "parameters": {"a": 1', "add", '{"a": 1'),
        ("mistral", '[TOOL_CALLS]add[ARGS]{"a": 1', "add", '{"a": 1'),
        ("mistral list", '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1', "add", '{"a": 1'),
    ],
)
def test_arguments_stream_before_the_call_is_complete(
    family: str, text: str, name: str, first: str
) -> None:
    parser = FAMILIES[family].parser(NAMES)
    assert list(parser.feed(text)) == [CallStart(name), CallArguments(first)]
    assert list(parser.feed("}"))[:2] == [CallArguments("}"), CallEnd()]


@pytest.mark.parametrize(
    "text",
    ["Hello", '{"n', '{"name": "ad', '{"name": "add_all", "pa', '  {"type": "function", "na'],
)
def test_json_is_held_back_only_while_it_can_be_a_call_of_a_tool(text: str) -> None:
    parser = LlamaFormat().parser(NAMES)
    fed = "".join(map(str, parser.feed(text)))
    assert fed == ("" if text.lstrip().startswith("{") else text)
    assert fed + "".join(map(str, parser.feed("!"))) == text + "!"


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("hermes", "<tool_call>{" + "a" * (2 * WHOLE_LIMIT)),
        ("mistral list", "[TOOL_CALLS][{" + "a" * (2 * WHOLE_LIMIT)),
        ("llama", '{"name"' + " " * (2 * WHOLE_LIMIT)),
        ("mistral", "[TOOL_CALLS]" + " " * (2 * WHOLE_LIMIT)),
        *((family, " " * (2 * WHOLE_LIMIT)) for family in FAMILIES),
        *((family, FAMILIES[family].frame("add")[0] + "{" * 9999) for family in FAMILIES),
    ],
)
def test_memory_stays_bounded(family: str, text: str) -> None:
    parser = FAMILIES[family].parser(NAMES)
    out = 0
    for start in range(0, len(text), 1000):
        pieces = parser.feed(text[start : start + 1000])
        out += sum(len(piece) for piece in pieces if isinstance(piece, str))
        assert parser.held_length <= WHOLE_LIMIT + 1100
    if "arguments" not in text and "parameters" not in text and "ARGS" not in text:
        out += sum(len(piece) for piece in parser.flush() if isinstance(piece, str))
        assert out == len(text)


@FAMILY
def test_a_forced_call_reads_on_from_its_opening(family: str) -> None:
    _, after = FAMILIES[family].frame("add")
    assert parsed(FAMILIES[family], ' {"a": 1}' + after, [], "add") == [["add", '{"a": 1}']]


@given(st.recursive(st.none() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
def test_json_end_is_where_the_value_ends(value: object) -> None:
    text = json.dumps({"v": value})
    assert JsonEnd().feed(text + "}} more") == len(text)
    scanner = JsonEnd()
    assert [scanner.feed(character) for character in text][-1] == 1


@pytest.mark.parametrize(
    ("template", "known", "begins"),
    [
        ("{{ tools }} <tool_call>", HermesFormat, "<tool_call>\n"),
        (family_templates.LLAMA, LlamaFormat, '{"name"'),
        (family_templates.MISTRAL_LIST, MistralFormat, '[TOOL_CALLS] [{"name"'),
        (family_templates.MISTRAL, MistralFormat, "[TOOL_CALLS]x[ARGS]"),
        ("{{ tools }} [TOOL_CALLS]", MistralFormat, '[TOOL_CALLS][{"name"'),
    ],
)
def test_the_template_tells_the_format(template: str, known: type, begins: str) -> None:
    found = tool_format(template)
    assert isinstance(found, known)
    assert found.opening("x").startswith(begins)


def test_models_without_tools_have_no_format() -> None:
    assert tool_format("{{ messages }} <tool_call>") is None
    assert tool_format("{{ tools }}") is None


@given(st.text(max_size=40))
def test_identifiers_suit_the_family(id: str) -> None:
    for known in FORMATS:
        assert known.identifier(id) == known.identifier(id)
        assert known.identifier(id + "x") != known.identifier(id)
    short = MISTRAL_FORMATS[0].identifier(id)
    assert len(short) == 9
    assert short.isascii()
    assert short.isalnum()
    assert MISTRAL_FORMATS[0].identifier(short) == short
