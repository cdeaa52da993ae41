"""Thoughts in requests of OpenAI's dialect: those that come back, and if there shall be any."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penstock.inference.v1 import inference_service_pb2 as inference_pb2
from penstock.inference.v1 import message_pb2

from gateway.dialects.openai import response_translate, schema
from gateway.dialects.openai.fields import chat_spelling
from gateway.dialects.openai.response_schema import ResponseCreate
from gateway.dialects.openai.translate import to_chat_request
from gateway.errors import Problem, ProblemError
from gateway.validation import decode

CHAT = msgspec.json.Decoder(schema.ChatCompletionRequest)
RESPONSE = msgspec.json.Decoder(ResponseCreate)


def chat(**fields: Any) -> schema.ChatCompletionRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return decode(CHAT, json.dumps(body).encode())


def assistant(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", **fields}]


@pytest.mark.parametrize(
    ("fields", "thought"),
    [
        ({}, ""),
        ({"reasoning_content": None, "reasoning": None}, ""),
        ({"reasoning_content": "hm"}, "hm"),
        ({"reasoning": "hm"}, "hm"),
        ({"reasoning": "hm", "reasoning_content": "hm"}, "hm"),
        ({"reasoning": "", "reasoning_content": "hm"}, "hm"),
        ({"reasoning_content": "hm", "content": None}, "hm"),
    ],
)
def test_thoughts_that_come_back(fields: dict[str, Any], thought: str) -> None:
    _, message = to_chat_request(chat(messages=assistant(**fields))).messages
    assert message.reasoning == thought
    assert [part.WhichOneof("part") for part in message.parts] == ["text"]


@pytest.mark.parametrize(
    ("fields", "wanted", "param"),
    [
        ({}, None, "reasoning"),
        ({"reasoning_effort": "high"}, None, "reasoning"),
        ({"reasoning_effort": "none"}, False, "reasoning_effort"),
        ({"chat_template_kwargs": None}, None, "reasoning"),
        ({"chat_template_kwargs": {"enable_thinking": None}}, None, "reasoning"),
        (
            {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "low"},
            True,
            "chat_template_kwargs.enable_thinking",
        ),
        (
            {"chat_template_kwargs": {"thinking": True}},
            True,
            "chat_template_kwargs.thinking",
        ),
        (
            {"chat_template_kwargs": {"thinking": False}, "reasoning_effort": "none"},
            False,
            "chat_template_kwargs.thinking",
        ),
        (
            {"chat_template_kwargs": {"thinking": True, "enable_thinking": True}},
            True,
            "chat_template_kwargs.enable_thinking",
        ),
    ],
)
def test_switches(fields: dict[str, Any], wanted: bool | None, param: str) -> None:
    body = chat(**fields)
    request = to_chat_request(body)
    assert (request.reasoning if request.HasField("reasoning") else None) is wanted
    refused = Problem("UNSUPPORTED_PARAMETER", "'reasoning' is not supported.", param="reasoning")
    told = chat_spelling(body)(refused)
    assert (told.param, told.message) == (param, f"'{param}' is not supported.")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        (
            {"messages": assistant(reasoning_content=5)},
            "messages[1].reasoning_content",
            "invalid_type",
        ),
        ({"messages": assistant(reasoning=["hm"])}, "messages[1].reasoning", "invalid_type"),
        (
            {"messages": assistant(reasoning="a", reasoning_content="b")},
            "messages[1].reasoning",
            "invalid_value",
        ),
        (
            {"messages": assistant(reasoning="", content=None)},
            "messages[1].content",
            "missing_required_parameter",
        ),
        ({"chat_template_kwargs": True}, "chat_template_kwargs", "invalid_type"),
        (
            {"chat_template_kwargs": {"enable_thinking": "yes"}},
            "chat_template_kwargs.enable_thinking",
            "invalid_type",
        ),
        (
            {"chat_template_kwargs": {"thinking": True, "language": "de"}},
            "chat_template_kwargs.language",
            "unsupported_parameter",
        ),
        (
            {"chat_template_kwargs": {"\u2028" * 100: 1}},
            "chat_template_kwargs." + r"\u2028" * 64,
            "unsupported_parameter",
        ),
        (
            {"chat_template_kwargs": {"thinking": True, "enable_thinking": False}},
            "chat_template_kwargs.thinking",
            "invalid_value",
        ),
        (
            {"chat_template_kwargs": {"thinking": True}, "reasoning_effort": "none"},
            "reasoning_effort",
            "invalid_value",
        ),
    ],
)
def test_refused(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(ProblemError) as refusal:
        to_chat_request(chat(**fields))
    problem = refusal.value.problem
    assert (problem.param, problem.code, problem.status) == (param, code, 400)
    assert param in problem.message


@given(
    key=st.text(max_size=80) | st.sampled_from(["enable_thinking", "thinking"]),
    value=st.none() | st.booleans() | st.integers() | st.text(),
)
def test_only_the_switches_are_taken(key: str, value: Any) -> None:
    switch = key in ("enable_thinking", "thinking")
    if switch and (value is None or isinstance(value, bool)):
        to_chat_request(chat(chat_template_kwargs={key: value}))
        return
    with pytest.raises(ProblemError) as refusal:
        to_chat_request(chat(chat_template_kwargs={key: value}))
    assert refusal.value.problem.code == ("invalid_type" if switch else "unsupported_parameter")


def dialogue(*items: Any, **fields: Any) -> inference_pb2.ChatRequest:
    body = decode(RESPONSE, json.dumps({"model": "m", "input": items, **fields}).encode())
    response_translate.check(body)
    entries = response_translate.entries_of(body)
    return response_translate.to_chat_request(body, entries).request


USER = {"role": "user", "content": "x"}
SAID = {"role": "assistant", "content": "y"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "1"}
SEARCH: dict[str, Any] = {"type": "file_search_call", "id": "fs_1", "queries": []}


def thought(*texts: str) -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text} for text in texts]
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": content}


@pytest.mark.parametrize(
    ("items", "turns"),
    [
        ([USER, thought("a"), SAID], [("USER", ""), ("ASSISTANT", "a")]),
        ([USER, thought("a", "b"), SEARCH, SAID], [("USER", ""), ("ASSISTANT", "a\nb")]),
        ([USER, thought("a"), thought("b"), SAID], [("USER", ""), ("ASSISTANT", "a\nb")]),
        ([USER, thought(), SAID], [("USER", ""), ("ASSISTANT", "")]),
        (
            [USER, thought("a"), CALL, OUTPUT, thought("b"), SAID],
            [("USER", ""), ("ASSISTANT", "a"), ("TOOL", ""), ("ASSISTANT", "b")],
        ),
        ([USER, thought("a"), SAID, thought("b"), CALL], [("USER", ""), ("ASSISTANT", "a\nb")]),
        (
            [USER, CALL, thought("a"), OUTPUT],
            [("USER", ""), ("ASSISTANT", "a"), ("TOOL", "")],
        ),
        ([USER, thought("a"), USER], [("USER", ""), ("ASSISTANT", "a"), ("USER", "")]),
        ([USER, thought("a")], [("USER", "")]),
        (
            [USER, {**thought(), "content": "a"}, SAID],
            [("USER", ""), ("ASSISTANT", "a")],
        ),
    ],
)
def test_reasoning_items_that_come_back(items: list[Any], turns: list[tuple[str, str]]) -> None:
    request = dialogue(*items)
    told = [
        (message_pb2.Role.Name(message.role).removeprefix("ROLE_"), message.reasoning)
        for message in request.messages
    ]
    assert told == turns
    assert all(message.parts or message.tool_calls for message in request.messages)


@pytest.mark.parametrize(
    ("part", "param", "code"),
    [
        ({"type": "output_text", "text": "a"}, "type", "invalid_value"),
        ({"type": "reasoning_text"}, "text", "missing_required_parameter"),
        ({"type": "reasoning_text", "text": 5}, "text", "invalid_type"),
    ],
)
def test_reasoning_items_that_are_refused(part: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(ProblemError) as refusal:
        dialogue(USER, {"type": "reasoning", "summary": [], "content": [part]}, SAID)
    problem = refusal.value.problem
    assert (problem.param, problem.code) == (f"input[1].content[0].{param}", code)


@pytest.mark.parametrize(("effort", "wanted"), [("none", False), ("low", None), (None, None)])
def test_effort_of_a_response(effort: str | None, wanted: bool | None) -> None:
    request = dialogue(USER, reasoning={"effort": effort})
    assert (request.reasoning if request.HasField("reasoning") else None) is wanted
