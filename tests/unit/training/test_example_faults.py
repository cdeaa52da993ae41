"""Bad lines of training files: what is said of them, and where."""

from __future__ import annotations

import io
import json

import pytest

from services.training.examples import FORMATS, Checked, Format, Method
from services.training.examples.check import check
from services.training.examples.lines import LONGEST

GOOD = b'{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}'
CHAT = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", %s}]}'
PAIR = '{"input": {"messages": [%s]}, "preferred_output": [%s], "non_preferred_output": [%s]}'
ASKED = '{"role": "user", "content": "a"}'
SAID = '{"role": "assistant", "content": "b"}'


def checked(content: bytes, method: Method = Method.SUPERVISED) -> Checked:
    return check(io.BytesIO(content), FORMATS[method])


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


def tools(function: str) -> str:
    return GOOD.decode()[:-1] + f',"tools":[{{"type":"function","function":{function}}}]}}'


FAULTS: dict[str, tuple[str, str, str]] = {
    # What is wrong: the line with § before the place, words of the message, a second such word.
    "no value": ('{"messages": §}', "not JSON", "value"),
    "torn off": ('{"messages": [{"role": "user"§', "not JSON", '","'),
    "open string": ('{"messages": §"abc', "not JSON", "closed"),
    "single quotes": ("{§'messages': []}", "not JSON", "double quotes"),
    "no colon": ('{"messages" §[]}', "not JSON", '":"'),
    "no comma": ('{"prompt": "a" §"completion": "b"}', "not JSON", '","'),
    "trailing comma": ('{"prompt": "a", §}', "not JSON", "key"),
    "two objects": ('{"prompt": "a", "completion": "b"} §{}', "not JSON", "goes on"),
    "bad escape": ('{"prompt": "a§\\q"}', "not JSON", "backslash"),
    "short escape": ('{"prompt": "a\\§u12"}', "not JSON", "four"),
    "raw NUL": ('{"prompt": "a§\0"}', "not JSON", "control"),
    "raw tab": ('{"prompt": "a§\t"}', "not JSON", "control"),
    "not a number": ('{"prompt": §NaN}', "NaN", "number"),
    "infinity": ('{"prompt": "NaN Infinity", "completion": §Infinity}', "Infinity", "number"),
    "minus infinity": ('{"prompt": [1, {"x": §-Infinity}]}', "-Infinity", "number"),
    "out of range": ('{"prompt": §1e999}', "1e999", "range"),
    "endless number": ('{"prompt": [7, §%s]}' % ("9" * 5000), "4300", "digits"),
    "same key twice": ('{"prompt": "a", "completion": "b", §"prompt": "c"}', '"prompt"', "twice"),
    "same key twice within": (
        '{"prompt": "role role", "messages": [{"role": 1}, {"role": "user", §"role": 2}]}',
        '"role"',
        "twice",
    ),
    "same key by escape": ('{"prompt": "a", §"\\u0070rompt": "b"}', '"prompt"', "twice"),
    "NUL by escape": ('{"prompt": "\\\\u0000 §\\u0000", "completion": "b"}', "NUL", "text"),
    "first half": ('{"prompt": "\\ud83d\\ude00 §\\ud83d!", "completion": "b"}', "half", "alone"),
    "second half": ('{"prompt": "\\\\ud83d§\\ude00", "completion": "b"}', "half", "alone"),
    "nested without end": ("[" * 64 + "§" + "[" * 100_000, "nested", "64"),
    "nested with an end": ("[" * 64 + "§" + deep(50_000) + "]" * 64, "nested", "64"),
    "a list": ('§[{"prompt": "a", "completion": "b"}]', "object", "one object a line"),
    "a string": ('§"abc"', "object", "a string"),
    "a number": ("  §12", "object", "a number"),
    "true": ("§true", "object", "true"),
    "null": ("§null", "object", "null"),
    "nothing known": ('§{"text": "abc"}', '"messages"', '"completion"'),
    "preference for supervised": (
        '{§"input": {}, "preferred_output": [], "non_preferred_output": []}',
        "preference",
        "method",
    ),
    "no completion": ('§{"prompt": "a"}', '"completion"', "missing"),
    "null completion": ('{"prompt": "a", "completion": §null}', '"completion"', "missing"),
    "empty completion": ('{"prompt": "a", "completion": §""}', '"completion"', "empty"),
    "prompt no string": ('{"prompt": §["a"], "completion": "b"}', '"prompt"', "a list"),
    "unknown key": ('{"prompt": "a", "completion": "b", §"weight": 1}', '"weight"', "no such key"),
    "unknown key of a chat": (
        GOOD.decode()[:-1] + ',§"prompt":"a"}',
        '"prompt"',
        "no such key",
    ),
    "no messages": ('{"messages": §[]}', '"messages"', "empty"),
    "messages no list": ('{"messages": §{}}', '"messages"', "an object"),
    "message no object": ('{"messages": [§"a"]}', '"messages[0]"', "a string"),
    "no role": ('{"messages": [§{"content": "a"}]}', '"role"', "missing"),
    "unknown role": ('{"messages": [{"role": §"bot", "content": "a"}]}', "role", "assistant"),
    "role no string": ('{"messages": [{"role": §["user"], "content": "a"}]}', "role", "user"),
    "no content": ('{"messages": [§{"role": "user"}]}', '"content"', "missing"),
    "null content": ('{"messages": [{"role": "user", "content": §null}]}', '"content"', "missing"),
    "content no string": (
        '{"messages": [{"role": "user", "content": §7}]}',
        '"messages[0].content"',
        "string",
    ),
    "unknown key of a message": (
        '{"messages": [{"role": "user", "content": "a", §"mood": "glad"}]}',
        "mood",
        "no such key",
    ),
    "an image": (
        '{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, '
        '{"type": §"image_url", "image_url": {"url": "https://example.com/a.png"}}]}]}',
        "content[1]",
        "images",
    ),
    "a sound": (
        '{"messages": [{"role": "user", "content": [{"type": §"input_audio"}]}]}',
        "content[0]",
        "sounds",
    ),
    "an unknown part": (
        '{"messages": [{"role": "user", "content": [{"type": §"smell"}]}]}',
        "content[0].type",
        "text",
    ),
    "a part without text": (
        '{"messages": [{"role": "user", "content": [§{"type": "text"}]}]}',
        "content[0].text",
        "null",
    ),
    "no parts": ('{"messages": [{"role": "user", "content": §[]}]}', "content", "empty"),
    "nobody answers": (f'{{"messages": §[{ASKED}]}}', "assistant", "nothing to learn"),
    "an empty answer": (CHAT % '"content": §""', "content", "nothing to learn"),
    "no answer": (
        CHAT.replace('{"role": "assistant"', '§{"role": "assistant"') % '"name": "b"',
        "content",
        "missing",
    ),
    "half a weight": (CHAT % '"content": "b", "weight": §0.5', "weight", "0 or 1"),
    "a weight of two": (CHAT % '"content": "b", "weight": §2', "weight", "0 or 1"),
    "a true weight": (CHAT % '"content": "b", "weight": §true', "weight", "0 or 1"),
    "a weight in a string": (CHAT % '"content": "b", "weight": §"1"', "weight", "0 or 1"),
    "weights of nothing": (CHAT % '"content": "b", "weight": §0', "weight", "nothing to learn"),
    "a user's weight": (
        '{"messages": [{"role": "user", "content": "a", §"weight": 1}]}',
        "weight",
        "no such key",
    ),
    "a tool without an ID": (
        '{"messages": [§{"role": "tool", "content": "a"}]}',
        '"tool_call_id"',
        "missing",
    ),
    "a function without a name": (
        '{"messages": [§{"role": "function", "content": "a"}]}',
        '"name"',
        "missing",
    ),
    "calls no list": (CHAT % '"tool_calls": §"f"', "tool_calls", "list"),
    "a call without an ID": (
        CHAT % '"tool_calls": [§{"type": "function", "function": {}}]',
        '"id"',
        "missing",
    ),
    "a call of another type": (
        CHAT % '"tool_calls": [{"id": "1", "type": §"code"}]',
        "type",
        "function",
    ),
    "a call without a function": (CHAT % '"tool_calls": [§{"id": "1"}]', '"function"', "missing"),
    "a call without arguments": (
        CHAT % '"tool_calls": [{"id": "1", "function": §{"name": "f"}}]',
        '"arguments"',
        "missing",
    ),
    "arguments no string": (
        CHAT % '"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": §{}}}]',
        "arguments",
        "a string",
    ),
    "deep arguments": (
        CHAT % f'"function_call": {{"name": "f", "arguments": §"{deep(65)}"}}',
        "arguments",
        "64",
    ),
    "a sound in the answer": (CHAT % '"content": "b", "audio": §{"id": "1"}', "audio", "leave"),
    "tools no list": (GOOD.decode()[:-1] + ',"tools":§7}', '"tools"', "list"),
    "a tool of another type": (
        GOOD.decode()[:-1] + ',"tools":[{"type":§"search"}]}',
        "tools[0].type",
        "function",
    ),
    "a tool without a name": (tools("§{}"), '"name"', "missing"),
    "parameters no object": (tools('{"name":"f","parameters":§[]}'), "parameters", "object"),
    "deep parameters": (
        tools(f'{{"name":"f","parameters":§{{"a":{deep(65)}}}}}'),
        "parameters",
        "nested",
    ),
    "tools of one name": (
        GOOD.decode()[:-1] + ',"functions":[{"name":"f"},§{"name":"f"}]}',
        '"f"',
        "twice",
    ),
    "tools by two names": (
        GOOD.decode()[:-1] + ',"tools":[],§"functions":[]}',
        "functions",
        "old name",
    ),
    "parallel calls": (
        GOOD.decode()[:-1] + ',"parallel_tool_calls":§1}',
        "parallel_tool_calls",
        "true or false",
    ),
}
PREFERENCE_FAULTS: dict[str, tuple[str, str, str]] = {
    "a chat": (GOOD.decode().replace('"messages"', '§"messages"'), "chat", "method"),
    "input missing": (
        f'§{{"preferred_output": [{SAID}], "non_preferred_output": [{SAID}]}}',
        '"input"',
        "missing",
    ),
    "no question": (PAIR.replace("[%s]}", "§[%s]}") % ("", SAID, SAID), "input.messages", "empty"),
    "no answer": (PAIR % (ASKED, SAID, "§"), "non_preferred_output", "empty"),
    "two answers": (
        PAIR % (ASKED, f"{SAID}, §{SAID}", SAID),
        '"preferred_output"',
        "2 messages",
    ),
    "a user's answer": (
        PAIR % (ASKED, SAID, ASKED.replace('"user"', '§"user"')),
        "non_preferred_output[0].role",
        "assistant",
    ),
    "a weight": (
        PAIR % (ASKED, SAID.replace("}", ', §"weight": 1}'), SAID),
        "weight",
        "only chat examples",
    ),
    "input unknown": (
        PAIR.replace('"input": {', '"input": {§"prompt": "a", ') % (ASKED, SAID, SAID),
        "prompt",
        "no such key",
    ),
}


def one_fault(line: str, words: tuple[str, str], method: Method) -> None:
    column = line.index("§") + 1
    found = checked(b"\n" + line.replace("§", "").encode() + b"\n", method)
    assert (found.line, found.column) == (2, column), found
    assert (found.example_count, found.bad_line_count) == (0, 1)
    assert not found.good
    for word in words:
        assert word in found.message, found.message


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_line_is_told_with_its_place(name: str) -> None:
    line, *words = FAULTS[name]
    one_fault(line, (words[0], words[1]), Method.SUPERVISED)


@pytest.mark.parametrize("name", PREFERENCE_FAULTS)
def test_a_bad_preference_is_told_with_its_place(name: str) -> None:
    line, *words = PREFERENCE_FAULTS[name]
    if name == "no answer":
        line = line.replace("[§]", "§[]")
    one_fault(line, (words[0], words[1]), Method.DPO)


@pytest.mark.parametrize("name", FAULTS)
def test_places_hold_behind_spaces_and_other_lines(name: str) -> None:
    line, *_ = FAULTS[name]
    completion = b'\xef\xbb\xbf{"prompt": "\xc3\xa9", "completion": "b"}\r\n'
    before = b"\xef\xbb\xbf" + GOOD + b"\r\n" if '"messages"' in line else completion
    found = checked(before + b"\t  " + line.replace("§", "").encode() + b"\r\n" + GOOD)
    assert (found.line, found.column) == (2, line.index("§") + 1 + 3)


@pytest.mark.parametrize(
    ("content", "line", "column", "word"),
    [
        (b"", 0, 0, "no examples"),
        (b"\n\r\n \t\n", 0, 0, "no examples"),
        (b"\xef\xbb\xbf", 0, 0, "no examples"),
        (GOOD + b'\n{"prompt": "\xc3\xa9\xff"}', 2, 14, "0xff"),
        (GOOD + b'\n{"prompt": "\xed\xa0\x80"}', 2, 13, "UTF-8"),
        (GOOD + b"\n" + GOOD[:-1] + b"\xe2\x82", 2, len(GOOD), "UTF-8"),
        ("﻿{}\n".encode("utf-16-le"), 1, 1, "UTF-16"),
        (b"\x1f\x8b\x08\x00", 1, 1, "gzip"),
        (GOOD + b"\n\xef\xbb\xbf" + GOOD, 2, 1, "value"),
        (GOOD + b'\n{"prompt": "\xf0\x9f\x98\x80", "completion": 7}', 2, 2, "chat"),
        (b'{"prompt": "\xf0\x9f\x98\x80", "completion": 7}', 1, 31, "a number"),
        (GOOD + b"\r" + GOOD, 1, len(GOOD) + 2, "goes on"),
    ],
)
def test_what_is_wrong_with_bytes(content: bytes, line: int, column: int, word: str) -> None:
    found = checked(content)
    assert (found.line, found.column) == (line, column), found
    assert word in found.message


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_blank_lines_are_counted_and_no_examples(end: bytes) -> None:
    content = end.join([b"\xef\xbb\xbf" + GOOD, b"", b"  \t", GOOD, b"7", GOOD, b"", b"{"])
    found = checked(content)
    assert (found.format, found.example_count, found.bad_line_count) == (Format.CHAT, 3, 2)
    assert (found.line, found.column) == (5, 1)


def test_the_first_good_line_tells_the_format() -> None:
    completion = b'{"prompt": "a", "completion": "b"}'
    found = checked(b"\n".join([b"{}", completion, GOOD, completion]))
    assert (found.format, found.example_count, found.bad_line_count) == (Format.COMPLETION, 2, 2)
    assert found.line == 1
    mixed = checked(b"\n".join([GOOD, completion]))
    assert (mixed.format, mixed.line, mixed.column) == (Format.CHAT, 2, 2)
    assert "completion example" in mixed.message
    assert "chat examples" in mixed.message


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_may_be_so_long_and_no_longer(end: bytes) -> None:
    def line(length: int) -> bytes:
        head, tail = b'{"prompt":"', b'","completion":"b"}'
        return head + b"a" * (length - len(head) - len(tail)) + tail

    after = b'{"prompt":"a","completion":"b"}' if end else b""
    good = checked(b"\xef\xbb\xbf" + line(LONGEST) + end + after)
    assert good.good, good
    bad = checked(b"\xef\xbb\xbf" + line(LONGEST + 1) + end + after)
    assert (bad.line, bad.column, bad.bad_line_count) == (1, 1, 1)
    assert bad.example_count == bool(after)
    assert "16 MiB" in bad.message
    long = checked(line(3 * LONGEST) + end + after + b"\n7")
    assert (long.line, long.bad_line_count, long.example_count) == (1, 2, bool(after))


def test_messages_stay_short_and_can_be_encoded() -> None:
    key = "k" * 10_000
    for line in (
        json.dumps({"prompt": "a", "completion": "b", key: 1}),
        json.dumps({key: 1}),
        f'{{"{key}": 1, "{key}": 2}}',
        '{"prompt": "a", "completion": "b", "\\ud800": 1}',
        '{"prompt": "a", "completion": "b", "\\ud800": 1, "\\ud800": 2}',
        '{"prompt": 1%s}' % ("0" * 400 + ".5e999"),
    ):
        found = checked(line.encode())
        assert not found.good
        assert len(found.message.encode()) < 400
