"""Good training files: what is read from them, and that whatever passes the check can be read."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.conversation import _message as served
from services.inference.requests import Message as ServedMessage
from services.inference.requests import Speaker
from services.inference.requests import ToolCall as ServedCall
from services.training.examples import (
    FORMATS,
    BadLine,
    ChatExample,
    Checked,
    CompletionExample,
    Example,
    Format,
    Message,
    Method,
    PreferenceExample,
    Role,
    ToolCall,
    read,
)
from services.training.examples.check import check
from services.training.examples.lines import lines
from services.training.examples.parsing import parse
from services.training.examples.strict_json import Fault

ASKED = {"role": "user", "content": "a"}
SAID = {"role": "assistant", "content": "b"}
U, A = Message(Role.USER, "a"), Message(Role.ASSISTANT, "b")
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}
NO_PARAMETERS = {"type": "object", "properties": {}}


def chat(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def function(**fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "description": "", **fields}}


GOOD: dict[str, tuple[dict[str, Any], Example]] = {
    "a chat": (chat(ASKED, SAID), ChatExample((U, A))),
    "a system's word": (
        chat({"role": "system", "content": "s"}, {"role": "developer", "content": "d"}, SAID),
        ChatExample((Message(Role.SYSTEM, "s"), Message(Role.SYSTEM, "d"), A)),
    ),
    "names and empty words": (
        chat({"role": "user", "content": "", "name": "n"}, SAID),
        ChatExample((Message(Role.USER, "", "n"), A)),
    ),
    "weights": (
        chat(ASKED, SAID | {"weight": 0}, ASKED, SAID | {"weight": 1.0}),
        ChatExample((U, Message(Role.ASSISTANT, "b", weight=0), U, A)),
    ),
    "parts": (
        chat({"role": "user", "content": [{"type": "text", "text": t} for t in "xy"]}, SAID),
        ChatExample((Message(Role.USER, "x\ny"), A)),
    ),
    "what clients write": (
        chat(
            {"role": "user", "content": "a", "name": None},
            SAID
            | {"refusal": None, "audio": None, "annotations": [], "weight": None}
            | {"tool_calls": None, "function_call": None},
            tools=None,
            functions=None,
            parallel_tool_calls=None,
        ),
        ChatExample((U, A)),
    ),
    "a refusal": (
        chat(ASKED, {"role": "assistant", "content": None, "refusal": "no"}),
        ChatExample((U, Message(Role.ASSISTANT, "no"))),
    ),
    "tools": (
        chat(
            ASKED,
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "content": "r", "tool_call_id": "1"},
            SAID,
            tools=[{"type": "function", "function": FUNCTION | {"strict": True}}],
            parallel_tool_calls=False,
        ),
        ChatExample(
            (
                U,
                Message(Role.ASSISTANT, "", tool_calls=(ToolCall("1", "f", "{}"),)),
                Message(Role.TOOL, "r", tool_call_id="1"),
                A,
            ),
            ({"type": "function", "function": FUNCTION},),
        ),
    ),
    "functions, as they once were": (
        chat(
            ASKED,
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
            {"role": "function", "name": "f", "content": "r"},
            SAID,
            functions=[{"name": "f"}],
        ),
        ChatExample(
            (
                U,
                Message(Role.ASSISTANT, "", tool_calls=(ToolCall("call_1", "f", ""),)),
                Message(Role.TOOL, "r", "f", tool_call_id="call_1"),
                A,
            ),
            (function(parameters=NO_PARAMETERS),),
        ),
    ),
    "a completion": ({"prompt": "", "completion": "é😀"}, CompletionExample("", "é😀")),
    "a preference": (
        {"input": chat(ASKED), "preferred_output": [SAID], "non_preferred_output": [SAID]},
        PreferenceExample((U,), (A,), (A,)),
    ),
}


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "examples.jsonl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("ascii", [True, False])
def test_an_example_is_read_as_it_is_meant(tmp_path: Path, name: str, ascii: bool) -> None:
    value, example = GOOD[name]
    content = json.dumps(value, ensure_ascii=ascii).encode()
    method = Method.DPO if isinstance(example, PreferenceExample) else Method.SUPERVISED
    found = check(io.BytesIO(content), FORMATS[method])
    assert found.good, found
    assert found.format is not None
    assert list(read(written(tmp_path, content), found.format)) == [example]


SERVED = [
    ServedMessage(Speaker.SYSTEM, ("s",)),
    ServedMessage(Speaker.USER, ("a", "b"), name="n"),
    ServedMessage(Speaker.TOOL, ("r",), tool_call_id="1"),
    *(
        ServedMessage(Speaker.ASSISTANT, ("b",), tool_calls=(ServedCall("1", "f", arguments),))
        for arguments in ('{"a": 1}', "", "[1]", "no JSON", "[" * 100_000)
    ),
]


@pytest.mark.parametrize("message", SERVED)
def test_templates_get_what_they_get_when_a_chat_is_served(message: ServedMessage) -> None:
    mine = Message(
        Role(message.speaker.value),
        message.text,
        message.name,
        tuple(ToolCall(c.id, c.name, c.arguments_json) for c in message.tool_calls),
        message.tool_call_id,
    )
    assert mine.for_template() == served(message, 0, None)


def test_reading_stops_at_a_bad_line(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps(chat(ASKED, SAID)).encode() + b'\n\n{"prompt": 1}\n')
    examples = read(path, Format.CHAT)
    assert next(examples) == ChatExample((U, A))
    with pytest.raises(BadLine) as caught:
        next(examples)
    assert (caught.value.line, caught.value.column) == (3, 2)
    assert str(caught.value).startswith("line 3, column 2: this is a completion example")


def run(*arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.training.examples.check", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **how,
    )


@pytest.mark.parametrize(
    ("arguments", "format", "message"),
    [
        (("--method", "supervised"), Format.CHAT, ""),
        (("--method", "supervised", "--format", "chat"), Format.CHAT, ""),
        (("--method", "supervised", "--format", "completion"), None, "chat example"),
        (("--method", "dpo"), None, "preference examples"),
    ],
)
def test_the_command_prints_what_the_service_reads(
    tmp_path: Path, arguments: tuple[str, ...], format: Format | None, message: str
) -> None:
    path = written(tmp_path, json.dumps(chat(ASKED, SAID)).encode())
    done = run(str(path), *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    checked = msgspec.json.decode(done.stdout, type=Checked)
    assert (checked.format, checked.good) == (format, not message)
    assert message in checked.message


def test_a_file_that_is_not_there_is_said_without_its_path(tmp_path: Path) -> None:
    done = run(str(tmp_path / "secret-name.jsonl"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "secret-name" not in done.stderr
    assert "No such file" in done.stderr


def test_the_check_loads_nothing_heavy() -> None:
    code = "import sys, services.training.examples.check; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "numpy", "grpc", "asyncio", "sqlalchemy", "google"}
    assert not heavy & set(done.stdout.split())


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    line = json.dumps(chat(ASKED | {"content": "x" * 2000}, SAID)).encode() + b"\n"
    path = tmp_path / "big.jsonl"
    with path.open("wb") as file:
        for _ in range(64):
            file.write(line * 500)
    assert path.stat().st_size > 64_000_000
    resource = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (48 << 20,) * 2);"
    code = f"{resource} from services.training.examples.check import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "PYTHONMALLOC": "malloc"},
    )
    assert '"example_count":32000,' in done.stdout, done.stderr


ALPHABET = st.text(st.characters(exclude_categories=()), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | ALPHABET
KEYS = st.sampled_from(
    [
        *("messages", "role", "content", "weight", "name", "tool_calls", "id", "type", "text"),
        *("function", "arguments", "tools", "parameters", "prompt", "completion", "input"),
        *("preferred_output", "non_preferred_output", "tool_call_id"),
    ]
)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["user", "assistant", "system", "tool", "function", "text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | ALPHABET, inner, max_size=4),
    max_leaves=12,
)
MEANT = st.sampled_from([value for value, _ in GOOD.values()])


@st.composite
def _spoilt(draw: st.DrawFn) -> bytes:
    """A good line in which a piece is replaced, removed or doubled."""
    line = json.dumps(draw(MEANT), ensure_ascii=draw(st.booleans())).encode()
    start = draw(st.integers(0, len(line)))
    stop = draw(st.integers(start, min(len(line), start + 12)))
    piece = draw(st.binary(max_size=6) | st.sampled_from([b'"', b"{", b"\\ud800", b"null", b"\\"]))
    return line[:start] + piece + line[start if draw(st.booleans()) else stop :]


LINES = (
    st.binary(max_size=40)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | MEANT.map(lambda value: json.dumps(value).encode())
    | _spoilt()
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r"])


@st.composite
def files(draw: st.DrawFn) -> bytes:
    parts = draw(st.lists(st.tuples(LINES, ENDS), max_size=6))
    content = b"".join(line + end for line, end in parts)
    if draw(st.booleans()):
        content = b"\xef\xbb\xbf" + content
    return content.rstrip(b"\r\n") if draw(st.booleans()) else content


@settings(deadline=None, max_examples=200)
@given(files() | st.binary(max_size=200), st.sampled_from(Method))
def test_any_bytes_are_checked_and_what_is_good_is_read_whole(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, method: Method
) -> None:
    checked = check(io.BytesIO(content), FORMATS[method])
    assert msgspec.json.decode(msgspec.json.encode(checked), type=Checked) == checked
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(content)
    if checked.good:
        assert checked.format in FORMATS[method]
        assert checked.example_count > 0
        assert (checked.line, checked.column, checked.bad_line_count) == (0, 0, 0)
        assert len(list(read(path, checked.format))) == checked.example_count
        return
    if checked.line == 0:
        assert (checked.example_count, checked.bad_line_count) == (0, 0)
        return
    _is_first_bad_line(content, checked, FORMATS[method])
    for format in FORMATS[method]:
        with pytest.raises(BadLine) as caught:
            list(read(path, format))
        assert caught.value.line <= checked.line


def _is_first_bad_line(content: bytes, checked: Checked, formats: frozenset[Format]) -> None:
    good: set[Format] = set()
    texts = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in lines(io.BytesIO(content)):
        assert line is not None
        assert texts[number - 1].removesuffix(b"\r") == line
        if number >= checked.line:
            break
        good.add(parse(line, formats)[0])
    assert len(good) <= 1
    line = texts[checked.line - 1].removesuffix(b"\r")
    with pytest.raises(Fault):
        parse(line, frozenset(good) or formats)
    assert 1 <= checked.column <= len(line.decode(errors="replace")) + 1
    blank = sum(1 for text in texts if not text.strip(b" \t\r"))
    assert checked.example_count + checked.bad_line_count == len(texts) - blank
