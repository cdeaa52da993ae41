"""Requests for responses, translated: what goes through, and what is refused by its field."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.openai.response_items import Entry, numbered
from gateway.dialects.openai.response_schema import InputItem, ResponseCreate
from gateway.dialects.openai.response_translate import (
    Translation,
    check,
    entries_of,
    searches,
    to_chat_request,
)
from gateway.errors import Problem, ProblemError
from gateway.validation import decode

DECODER = msgspec.json.Decoder(ResponseCreate)
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "42"}
F = {"type": "function", "name": "f", "parameters": {"type": "object"}}
G = {"type": "function", "name": "g", "strict": True}
SEARCH = {"type": "file_search", "vector_store_ids": ["vs_1"]}


def translated(**fields: Any) -> Translation:
    body = decode(DECODER, json.dumps({"model": "m", "input": "Hi"} | fields).encode())
    check(body)
    return to_chat_request(body, entries_of(body))


def request_of(**fields: Any) -> dict[str, Any]:
    request = translated(**fields).request
    return json_format.MessageToDict(request, preserving_proto_field_name=True)


def message(role: str, text: str) -> dict[str, Any]:
    return {"role": f"ROLE_{role}", "parts": [{"text": text}]}


ASSISTANT = {
    "role": "ROLE_ASSISTANT",
    "tool_calls": [{"id": "c1", "name": "f", "arguments_json": '{"a":1}'}],
}
TOOL = {**message("TOOL", "42"), "tool_call_id": "c1"}
CONVERSATIONS: list[tuple[Any, list[dict[str, Any]]]] = [
    ("Hi", [message("USER", "Hi")]),
    ("", [{"role": "ROLE_USER", "parts": [{"text": ""}]}]),
    (
        [{"role": role, "content": role} for role in ("system", "developer", "user", "assistant")],
        [
            message("SYSTEM", "system"),
            message("SYSTEM", "developer"),
            message("USER", "user"),
            message("ASSISTANT", "assistant"),
        ],
    ),
    (
        [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "a"},
                    {"type": "output_text", "text": "b"},
                    {"type": "refusal", "refusal": "c"},
                ],
            }
        ],
        [message("USER", "a\nb\nc")],
    ),
    (
        [{"role": "user", "content": "a"}, CALL, RESULT],
        [message("USER", "a"), ASSISTANT, TOOL],
    ),
    (
        # What a response holds, sent back: one turn of the assistant.
        [
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "a"}], "id": "msg_1"},
            CALL,
            {**CALL, "call_id": "c2"},
            {"type": "file_search_call", "id": "fs_1", "queries": ["q"], "status": "completed"},
            RESULT,
            {**RESULT, "call_id": "c2"},
        ],
        [
            {
                **message("ASSISTANT", "a"),
                "tool_calls": [
                    {"id": "c1", "name": "f", "arguments_json": '{"a":1}'},
                    {"id": "c2", "name": "f", "arguments_json": '{"a":1}'},
                ],
            },
            TOOL,
            {**TOOL, "tool_call_id": "c2"},
        ],
    ),
    (
        [CALL, RESULT, {**CALL, "call_id": "c2"}, {**RESULT, "call_id": "c2", "output": "43"}],
        [
            ASSISTANT,
            TOOL,
            {**ASSISTANT, "tool_calls": [{**ASSISTANT["tool_calls"][0], "id": "c2"}]},
            {**message("TOOL", "43"), "tool_call_id": "c2"},
        ],
    ),
    (
        [CALL, {**RESULT, "output": [{"type": "input_text", "text": "4"}]}],
        [ASSISTANT, {**message("TOOL", "4"), "tool_call_id": "c1"}],
    ),
    (
        [
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}],
            }
        ],
        [{"role": "ROLE_USER", "parts": [{"image": {"data": "AAAA", "mime_type": "image/png"}}]}],
    ),
]


@pytest.mark.parametrize(("given", "messages"), CONVERSATIONS)
def test_conversations(given: Any, messages: list[dict[str, Any]]) -> None:
    assert request_of(input=given)["messages"] == messages
    first = message("SYSTEM", "Be brief.")
    assert request_of(input=given, instructions="Be brief.")["messages"] == [first, *messages]


FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"max_output_tokens": 16}, {"sampling": {"max_tokens": 16}}),
    ({"temperature": 0, "top_p": 0.5}, {"sampling": {"temperature": 0.0, "top_p": 0.5}}),
    ({"include": ["message.output_text.logprobs"]}, {"sampling": {"logprobs": 0}}),
    (
        {"include": ["message.output_text.logprobs"], "top_logprobs": 3},
        {"sampling": {"logprobs": 3}},
    ),
    ({"user": "u", "safety_identifier": "s"}, {"user": "u"}),
    ({"safety_identifier": "s"}, {"user": "s"}),
    ({"metadata": {"a": "b"}}, {"metadata": {"a": "b"}}),
    ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {}),
    ({"text": {"format": {"type": "json_object"}}}, {"guide": {"json_object": True}}),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}},
        {"guide": {"json_schema": '{"type": "object"}'}},
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}}},
        {"guide": {"json_schema": "{}", "strict": True}},
    ),
    ({"tools": []}, {}),
    (
        {"tools": [F, G], "parallel_tool_calls": False},
        {
            "tools": [
                {"name": "f", "parameters_json": '{"type": "object"}'},
                {"name": "g", "strict": True},
            ],
            "parallel_tool_calls": False,
        },
    ),
    (
        {
            "tools": [F, G],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "g"}],
            },
        },
        {"tools": [{"name": "g", "strict": True}], "tool_choice": {"mode": "MODE_REQUIRED"}},
    ),
    (
        {"tools": [G], "tool_choice": {"type": "function", "name": "g"}},
        {
            "tools": [{"name": "g", "strict": True}],
            "tool_choice": {"mode": "MODE_NAMED", "name": "g"},
        },
    ),
    (
        {"tools": [G], "tool_choice": "none"},
        {"tools": [{"name": "g", "strict": True}], "tool_choice": {"mode": "MODE_NONE"}},
    ),
    ({"tools": [SEARCH], "tool_choice": "required"}, {}),
    (
        {"tools": [SEARCH, G], "tool_choice": {"type": "file_search"}},
        {"tools": [{"name": "g", "strict": True}], "tool_choice": {"mode": "MODE_NONE"}},
    ),
    # Hints, and what has only one value here.
    (
        {
            "truncation": "disabled",
            "background": False,
            "reasoning": {"effort": "high"},
            "service_tier": "auto",
            "prompt_cache_key": "k",
            "prompt_cache_retention": "24h",
            "max_tool_calls": 3,
            "store": False,
            "stream": True,
            "stream_options": {"include_obfuscation": False},
            "something_new": 1,
        },
        {},
    ),
    # Null is absent.
    (dict.fromkeys(set(ResponseCreate.__struct_fields__) - {"model", "input"}), {}),
]


@pytest.mark.parametrize(("fields", "expected"), FIELDS)
def test_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    found = request_of(**fields)
    del found["model"], found["messages"]
    assert found.pop("sampling", {}) == expected.pop("sampling", {})
    assert found == expected


def item(**fields: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": "a"}, fields]}


def part(**fields: Any) -> dict[str, Any]:
    return item(role="user", content=[fields])


FORMAT = "text.format"
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"background": True}, "background", "unsupported_parameter"),
    ({"truncation": "auto"}, "truncation", "unsupported_parameter"),
    ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
    ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
    ({"context_management": [{}]}, "context_management", "unsupported_parameter"),
    ({"moderation": {}}, "moderation", "unsupported_parameter"),
    ({"reasoning": {"summary": "auto"}}, "reasoning.summary", "unsupported_parameter"),
    (
        {"reasoning": {"generate_summary": "auto"}},
        "reasoning.generate_summary",
        "unsupported_parameter",
    ),
    ({"include": ["reasoning.encrypted_content"]}, "include[0]", "invalid_value"),
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
    ({"stream_options": {}}, "stream_options", "invalid_value"),
    (
        {"stream": True, "stream_options": {"include_usage": True}},
        "stream_options.include_usage",
        "unsupported_parameter",
    ),
    ({"max_output_tokens": 15}, "max_output_tokens", "integer_below_min_value"),
    ({"input": []}, "input", "empty_array"),
    ({"input": None}, "input", "invalid_type"),
    ({"input": [{"type": "reasoning", "summary": []}]}, "input", "invalid_value"),
    (item(type="computer_call"), "input[1].type", "invalid_value"),
    (item(type="message", content="a"), "input[1].role", "missing_required_parameter"),
    (item(role="user"), "input[1].content", "missing_required_parameter"),
    (item(role="tool", content="a"), "input[1].role", "invalid_value"),
    (item(role="user", content=[]), "input[1].content", "empty_array"),
    (part(type="input_text"), "input[1].content[0].text", "missing_required_parameter"),
    (part(type="input_file", file_id="f"), "input[1].content[0].type", "invalid_value"),
    (part(type="input_image"), "input[1].content[0].image_url", "missing_required_parameter"),
    (
        part(type="input_image", file_id="f"),
        "input[1].content[0].file_id",
        "unsupported_parameter",
    ),
    (
        part(type="input_image", image_url="https://x/y.png"),
        "input[1].content[0].image_url",
        "invalid_value",
    ),
    (
        item(type="function_call", name="f", arguments="{}"),
        "input[1].call_id",
        "missing_required_parameter",
    ),
    (
        item(type="function_call", call_id="c", arguments="{}"),
        "input[1].name",
        "missing_required_parameter",
    ),
    (
        item(type="function_call", call_id="c", name="f"),
        "input[1].arguments",
        "missing_required_parameter",
    ),
    (
        item(type="function_call", call_id="c", name="f", arguments="[" * 100),
        "input[1].arguments",
        "invalid_value",
    ),
    (item(**RESULT), "input[1].call_id", "invalid_value"),
    (
        item(type="function_call_output", call_id="c1"),
        "input[1].output",
        "missing_required_parameter",
    ),
    (
        item(type="function_call_output", output="x"),
        "input[1].call_id",
        "missing_required_parameter",
    ),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
    (
        {"tools": [G, {"type": "file_search"}], "tool_choice": "none"},
        "tools[1].vector_store_ids",
        "missing_required_parameter",
    ),
    ({"tools": [G, {"type": "mcp"}]}, "tools[1].type", "unsupported_parameter"),
    ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
    (
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        "tools[0].name",
        "missing_required_parameter",
    ),
    ({"tools": [G, {**F, "parameters": []}]}, "tools[1].parameters", "invalid_type"),
    ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    ({"tool_choice": "some"}, "tool_choice", "invalid_value"),
    ({"tool_choice": {"type": "function", "name": "f"}}, "tool_choice", "invalid_value"),
    (
        {"tools": [F], "tool_choice": {"type": "function"}},
        "tool_choice.name",
        "missing_required_parameter",
    ),
    (
        {"tools": [F], "tool_choice": {"type": "function", "name": "g"}},
        "tool_choice",
        "invalid_value",
    ),
    ({"tools": [F], "tool_choice": {"type": "file_search"}}, "tool_choice", "invalid_value"),
    ({"tools": [F], "tool_choice": {"type": "mcp"}}, "tool_choice.type", "invalid_value"),
    (
        {"tools": [F], "tool_choice": {"type": "allowed_tools", "mode": "auto"}},
        "tool_choice.tools",
        "missing_required_parameter",
    ),
    (
        {
            "tools": [F],
            "tool_choice": {"type": "allowed_tools", "tools": [{"type": "function", "name": "f"}]},
        },
        "tool_choice.mode",
        "missing_required_parameter",
    ),
    (
        {
            "tools": [F],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "x"}],
            },
        },
        "tool_choice.tools[1]",
        "invalid_value",
    ),
    ({"text": {"format": {"type": "xml"}}}, f"{FORMAT}.type", "invalid_value"),
    (
        {"text": {"format": {"type": "json_schema", "schema": {}}}},
        f"{FORMAT}.name",
        "missing_required_parameter",
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "n"}}},
        f"{FORMAT}.schema",
        "missing_required_parameter",
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": 5}}},
        f"{FORMAT}.schema",
        "invalid_type",
    ),
    ({"text": {"verbosity": "loud"}}, "text.verbosity", "invalid_value"),
]


@pytest.mark.parametrize(("fields", "param", "code"), REFUSED)
def test_refusals(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(ProblemError) as caught:
        translated(**fields)
    problem = caught.value.problem
    assert (problem.param, problem.code) == (param, code)
    assert problem.status == 400


SPELLINGS: list[tuple[dict[str, Any], str, str]] = [
    ({}, "messages[0].parts[0].text", "input"),
    ({}, "messages", "input"),
    ({"instructions": "x"}, "messages[0].parts", "instructions"),
    ({"instructions": "x"}, "messages[1]", "input"),
    ({"input": [CALL, RESULT]}, "messages[0].tool_calls[0].name", "input[0]"),
    ({"input": [CALL, RESULT]}, "messages[1].tool_call_id", "input[1]"),
    ({"max_output_tokens": 16}, "sampling.max_tokens", "max_output_tokens"),
    ({}, "sampling.top_p", "top_p"),
    ({}, "sampling.logprobs", "include"),
    (
        {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        "sampling.logprobs",
        "top_logprobs",
    ),
    ({}, "guide.json_schema.properties.a", "text.format.schema.properties.a"),
    ({}, "guide.json_schema", "text.format"),
    ({}, "guide.strict", "text.format.strict"),
    ({}, "guide", "text.format"),
    ({"tools": [SEARCH, G]}, "tools[0].parameters_json.type", "tools[1].parameters.type"),
    ({"tools": [SEARCH, G]}, "tools[0].strict", "tools[1].strict"),
    ({"tools": [SEARCH, G]}, "tools[0]", "tools[1]"),
    ({"tools": [G]}, "tool_choice.mode", "tool_choice"),
    ({"safety_identifier": "x"}, "user", "safety_identifier"),
    ({"user": "x"}, "user", "user"),
    ({}, "model", "model"),
]


@pytest.mark.parametrize(("fields", "told", "spelled"), SPELLINGS)
def test_fields_of_the_service_are_spelled(fields: dict[str, Any], told: str, spelled: str) -> None:
    problem = Problem("INVALID_ARGUMENT", f"'{told}': is wrong.", param=told)
    found = translated(**fields).spell(problem)
    assert (found.param, found.message) == (spelled, f"'{spelled}': is wrong.")


def test_what_is_too_long_is_the_input() -> None:
    problem = Problem("CONTEXT_LENGTH_EXCEEDED", "It is too long.")
    assert translated().spell(problem).param == "input"


SEARCHES: list[tuple[Any, int]] = [
    (None, 1),
    ("auto", 1),
    ("none", 0),
    ({"type": "file_search"}, 1),
    ({"type": "function", "name": "g"}, 0),
    ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}, 0),
    ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "file_search"}]}, 1),
]


@pytest.mark.parametrize(("choice", "count"), SEARCHES)
def test_searches(choice: Any, count: int) -> None:
    fields = {"model": "m", "input": "Hi", "tools": [G, SEARCH], "tool_choice": choice}
    found = searches(decode(DECODER, json.dumps(fields).encode()))
    assert [place for place, _ in found] == [1] * count


IDS = st.none() | st.text(max_size=3) | st.sampled_from(["msg_a", "msg_b", "x" * 129, "\0", "ü"])


@given(ids=st.lists(IDS, max_size=12), taken=st.lists(st.sampled_from(["msg_a", "b"])))
def test_kept_items_have_ids_of_their_own(ids: list[str | None], taken: list[str]) -> None:
    entries = [
        Entry(InputItem(role="user", content="a", type="message", id=id), "input") for id in ids
    ]
    kept = numbered(entries, taken)
    found = [item.id for item in kept]
    assert len({*found, *taken}) == len(found) + len({*taken})
    for id in found:
        assert id is not None
        assert id.isascii()
        assert 0 < len(id) <= 128
        assert id.isprintable()
    for given_id, id in zip(ids, found, strict=True):
        first = given_id not in taken and ids.index(given_id) == found.index(id)
        if given_id == "msg_b" and first:
            assert id == given_id


KEPT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"role": "assistant", "content": "a", "id": "msg_1"},
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "a", "annotations": []}],
        },
    ),
    (
        {
            "role": "user",
            "id": "msg_1",
            "status": "incomplete",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "input_image", "image_url": "u", "detail": "low"},
            ],
        },
        {
            "id": "msg_1",
            "type": "message",
            "status": "incomplete",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "a"},
                {"type": "input_image", "image_url": "u", "detail": "low"},
            ],
        },
    ),
    ({**CALL, "id": "fc_1"}, {**CALL, "id": "fc_1", "status": "completed"}),
    ({**RESULT, "id": "fco_1"}, {**RESULT, "id": "fco_1", "status": "completed"}),
    (
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}]},
        {
            "type": "reasoning",
            "id": "rs_1",
            "status": "completed",
            "summary": [{"type": "summary_text", "text": "s"}],
        },
    ),
]


@pytest.mark.parametrize(("given", "kept"), KEPT)
def test_items_as_they_are_kept(given: dict[str, Any], kept: dict[str, Any]) -> None:
    entry = Entry(msgspec.convert(given, InputItem), "input[0]")
    (found,) = numbered([entry], [])
    assert json.loads(msgspec.json.encode(found)) == kept
    again = msgspec.json.decode(msgspec.json.encode(found), type=InputItem)
    assert numbered([Entry(again, "input[0]")], []) == [found]
