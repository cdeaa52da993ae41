"""Anthropic's requests: what is refused, and what fields are called in problems of services."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.dialects.anthropic import schema
from gateway.dialects.anthropic.translate import (
    to_chat_request,
    to_template_request,
)
from gateway.errors import Problem, ProblemError
from gateway.validation import decode

DECODER = msgspec.json.Decoder(schema.MessagesRequest)
TOOL = {"name": "f", "input_schema": {"type": "object"}}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1"}
IMAGE = {"type": "base64", "media_type": "image/png", "data": "aGk="}


def parsed(**changes: Any) -> schema.MessagesRequest:
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "m", "max_tokens": 5, "messages": messages} | changes
    return decode(DECODER, json.dumps(body).encode())


def said(role: str, *blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": list(blocks)}, {"role": "user", "content": "x"}]}


BLOCK = "messages[0].content[0]"
THINKING = {"type": "enabled", "budget_tokens": 1024}
FORCED: dict[str, Any] = {"tools": [TOOL], "tool_choice": {"type": "any"}}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"temperature": 1.5}, "temperature"),
    ({"top_k": -1}, "top_k"),
    ({"stop_sequences": [""]}, "stop_sequences[0]"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "assistant", "content": "The answer is ("}]}, "messages"),
    ({"system": [{"type": "image"}]}, "system[0].type"),
    (said("user"), "messages[0].content"),
    (said("user", {"type": "text"}), f"{BLOCK}.text"),
    (said("user", {"type": "document"}), f"{BLOCK}.type"),
    (said("user", CALL), f"{BLOCK}.type"),
    (said("user", {"type": "thinking"}), f"{BLOCK}.type"),
    (said("assistant", RESULT), f"{BLOCK}.type"),
    (said("assistant", {"type": "image", "source": IMAGE}), f"{BLOCK}.type"),
    (said("assistant", CALL | {"id": None}), f"{BLOCK}.id"),
    (said("assistant", CALL | {"name": ""}), f"{BLOCK}.name"),
    (said("assistant", CALL | {"input": [1]}), f"{BLOCK}.input"),
    (said("user", RESULT | {"tool_use_id": ""}), f"{BLOCK}.tool_use_id"),
    (said("user", RESULT | {"content": [{"type": "text"}]}), f"{BLOCK}.content[0].text"),
    (said("user", {"type": "image"}), f"{BLOCK}.source"),
    (said("user", {"type": "image", "source": {"type": "url"}}), f"{BLOCK}.source.type"),
    (
        said("user", {"type": "image", "source": IMAGE | {"data": None}}),
        f"{BLOCK}.source.data",
    ),
    (
        said("user", {"type": "image", "source": IMAGE | {"media_type": None}}),
        f"{BLOCK}.source.media_type",
    ),
    (said("user", {"type": "image", "source": IMAGE | {"data": "?"}}), f"{BLOCK}.source.data"),
    (said("assistant", {"type": "thinking"}), f"{BLOCK}.thinking"),
    (said("user", {"type": "redacted_thinking"}), f"{BLOCK}.type"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": THINKING | {"budget_tokens": 1023}}, "thinking.budget_tokens"),
    ({"thinking": THINKING | {"display": "loud"}}, "thinking.display"),
    ({"thinking": THINKING, "max_tokens": 1024}, "max_tokens"),
    (FORCED | {"thinking": THINKING, "max_tokens": 1025}, "tool_choice"),
    ({"thinking": {"type": "between_tools"}}, "thinking.type"),
    ({"tools": [TOOL | {"type": "web_search_20250305"}]}, "tools[0].type"),
    ({"tools": [TOOL | {"defer_loading": True}]}, "tools[0].defer_loading"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    ({"tools": [TOOL | {"input_schema": []}]}, "tools[0].input_schema"),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tool_choice": {"type": "tool", "name": "f"}}, "tool_choice"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
    ({"metadata": {"user_id": "x" * 513}}, "metadata.user_id"),
    ({"container": "c"}, "container"),
    ({"mcp_servers": [{}]}, "mcp_servers"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
]


@pytest.mark.parametrize(("changes", "field"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ProblemError) as refused:
        to_chat_request(parsed(**changes))
    problem = refused.value.problem
    assert problem.status == 400
    assert problem.param == field
    shared = "tool_choice", "tools", "messages", "system", "thinking"
    if field.startswith(shared) and field != "messages":
        with pytest.raises(ProblemError) as refused:
            to_template_request(parsed(**changes))
        assert refused.value.problem == problem


def test_hints_and_nulls_are_taken() -> None:
    hints = {"cache_control": {"type": "ephemeral"}, "service_tier": "auto", "speed": "fast"}
    nulls = dict.fromkeys(
        ("system", "tools", "tool_choice", "top_k", "stream", "metadata", "container", "thinking")
    )
    request, _ = to_chat_request(parsed(**hints, **nulls, mcp_servers=[]))
    assert request == to_chat_request(parsed())[0]


@pytest.mark.parametrize(
    ("thinking", "reasoning"),
    [
        (None, None),
        (THINKING, True),
        ({"type": "adaptive"}, None),
        ({"type": "adaptive", "display": "omitted"}, None),
        ({"type": "disabled"}, False),
    ],
)
def test_who_says_nothing_of_thinking_leaves_it_to_the_model(
    thinking: Any, reasoning: bool | None
) -> None:
    request, _ = to_chat_request(parsed(thinking=thinking, max_tokens=2048))
    assert (request.reasoning if request.HasField("reasoning") else None) == reasoning


def test_only_who_insists_on_thoughts_may_force_no_call() -> None:
    for kind in ("adaptive", "disabled"):
        to_chat_request(parsed(**FORCED, thinking={"type": kind}))
    with pytest.raises(ProblemError) as refused:
        to_chat_request(parsed(**FORCED, thinking=THINKING, max_tokens=2048))
    message = "Thinking may not be enabled when tool_choice forces tool use."
    assert refused.value.problem.message == message


def test_thoughts_of_earlier_turns_are_told() -> None:
    thoughts = [{"type": "thinking", "thinking": text, "signature": "s"} for text in ("a", "", "b")]
    redacted = {"type": "redacted_thinking", "data": "x"}
    body = parsed(**said("assistant", *thoughts, redacted, {"type": "text", "text": "c"}))
    for request, _ in (to_chat_request(body), to_template_request(body)):
        assert request.messages[0].reasoning == "a\n\nb"
        assert [part.text for part in request.messages[0].parts] == ["c"]
    alone = to_chat_request(parsed(**said("assistant", redacted)))[0].messages[0]
    assert ([part.text for part in alone.parts], alone.reasoning) == ([""], "")


def test_a_choice_without_tools_is_none() -> None:
    for kind in ("auto", "none"):
        request, _ = to_chat_request(parsed(tool_choice={"type": kind}))
        assert not request.HasField("tool_choice")
        assert not request.HasField("parallel_tool_calls")


def test_tools_that_must_not_be_called_are_not_counted() -> None:
    body = parsed(tools=[TOOL], tool_choice={"type": "none"})
    assert not to_template_request(body)[0].tools
    assert len(to_template_request(parsed(tools=[TOOL]))[0].tools) == 1


TURNS = [
    {"role": "user", "content": "a"},
    {
        "role": "user",
        "content": [{"type": "text", "text": "b"}, {"type": "image", "source": IMAGE}],
    },
    {"role": "assistant", "content": [CALL]},
    {
        "role": "user",
        "content": [
            RESULT
            | {"content": [{"type": "text", "text": "c"}, {"type": "image", "source": IMAGE}]},
            {"type": "text", "text": "d"},
        ],
    },
]


@pytest.mark.parametrize(
    ("param", "field"),
    [
        ("messages[0].parts[1].text", "system[1].text"),
        ("messages[1].parts[0]", "messages[0].content"),
        ("messages[1].parts[1].text", "messages[1].content[0].text"),
        ("messages[1].parts[2].image", "messages[1].content[1].source"),
        ("messages[2].tool_calls[0].name", "messages"),
        ("messages[3].parts[1].image.data", "messages[3].content[0].content[1].source"),
        ("messages[4].parts[0]", "messages[3].content[1].text"),
        ("messages[9].parts[0]", "messages[9].parts[0]"),
        ("messages", "messages"),
        ("sampling.stop[1]", "stop_sequences[1]"),
        ("sampling.max_tokens", "max_tokens"),
        ("tools[1].parameters_json", "tools[1].input_schema"),
        ("tools[1].name", "tools[1].name"),
        ("tool_choice.mode", "tool_choice.type"),
        ("guide.json_schema", "output_config.format.schema"),
        ("user", "metadata.user_id"),
        ("reasoning", "thinking.type"),
        ("model", "model"),
    ],
)
def test_fields_of_services_are_spelled_as_in_the_request(param: str, field: str) -> None:
    system = [{"type": "text", "text": "1"}, {"type": "text", "text": "2"}]
    _, spelling = to_chat_request(parsed(system=system, messages=TURNS))
    problem = spelling(Problem("INVALID_ARGUMENT", f"'{param}': no.", param))
    assert (problem.param, problem.message) == (field, f"'{field}': no.")


def test_what_is_too_long_is_the_conversation() -> None:
    _, spelling = to_chat_request(parsed())
    assert spelling(Problem("CONTEXT_LENGTH_EXCEEDED", "long")).param == "messages"
