"""What a request becomes, and what it may not be."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from penstock.inference.v1 import message_pb2

from gateway.dialects.openai import schema
from gateway.dialects.openai.fields import chat_spelling, completion_spelling
from gateway.dialects.openai.translate import to_chat_request, to_complete_request
from gateway.errors import Problem, ProblemError

MESSAGES = [{"role": "user", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def chat(**fields: object) -> schema.ChatCompletionRequest:
    body = {"model": "m", "messages": MESSAGES, **fields}
    return msgspec.json.decode(json.dumps(body), type=schema.ChatCompletionRequest)


def completion(**fields: object) -> schema.CompletionRequest:
    body = {"model": "m", "prompt": "x", **fields}
    return msgspec.json.decode(json.dumps(body), type=schema.CompletionRequest)


def user(*parts: object) -> list[object]:
    return [{"role": "user", "content": list(parts)}]


DEEP: object = 1
for _ in range(70):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        (
            {"messages": [{"role": "user", "content": None}]},
            "messages[0].content",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "assistant"}]},
            "messages[0].content",
            "missing_required_parameter",
        ),
        ({"messages": user()}, "messages[0].content", "empty_array"),
        (
            {"messages": user({"type": "text"})},
            "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        (
            {"messages": user({"type": "image_url"})},
            "messages[0].content[0].image_url",
            "missing_required_parameter",
        ),
        (
            {"messages": user({"type": "image_url", "image_url": {"url": "http://a/b.png"}})},
            "messages[0].content[0].image_url",
            "invalid_value",
        ),
        (
            {"messages": user({"type": "image_url", "image_url": "data:image/png;base64,%%"})},
            "messages[0].content[0].image_url",
            "invalid_value",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (
            {"messages": [{"role": "function", "content": "x"}]},
            "messages[0].name",
            "missing_required_parameter",
        ),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"top_logprobs": 1}, "top_logprobs", "invalid_value"),
        ({"top_logprobs": 1, "logprobs": False}, "top_logprobs", "invalid_value"),
        ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
        ({"audio": {"voice": "a"}}, "audio", "unsupported_parameter"),
        ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"-1": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"²": 1}}, "logit_bias", "invalid_value"),
        ({"logit_bias": {"99999999999": 1}}, "logit_bias", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ({"tool_choice": "perhaps"}, "tool_choice", "invalid_value"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice",
            "invalid_value",
        ),
        ({"tools": [TOOL], "functions": [{"name": "f"}]}, "functions", "invalid_value"),
        (
            {"functions": [{"name": "f"}], "function_call": {"name": "g"}},
            "function_call",
            "invalid_value",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": [1]}}]},
            "tools[0].function.parameters",
            "invalid_type",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": DEEP}}}]},
            "tools[0].function.parameters",
            "invalid_value",
        ),
        (
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "missing_required_parameter",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": 5}}},
            "response_format.json_schema.schema",
            "invalid_type",
        ),
    ],
)
def test_chat_refuses(fields: dict[str, object], param: str, code: str) -> None:
    with pytest.raises(ProblemError) as caught:
        to_chat_request(chat(**fields))
    found = caught.value.problem
    assert (found.param, found.code, found.status) == (param, code, 400)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"stream_options": {}}, "stream_options"),
        ({"best_of": 0}, "best_of"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"prompt": [1, "x"]}, "prompt"),
        ({"prompt": ["x", [1]]}, "prompt"),
        ({"prompt": [[1], 1]}, "prompt"),
        ({"prompt": ["x"] * 2049}, "prompt"),
    ],
)
def test_completion_refuses(fields: dict[str, object], param: str) -> None:
    with pytest.raises(ProblemError) as caught:
        to_complete_request(completion(**fields))
    assert caught.value.problem.param == param


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "low", "verbosity": "low", "store": True, "service_tier": "auto"},
        {"prediction": {"type": "content"}, "prompt_cache_key": "k", "parallel_tool_calls": True},
        {"tool_choice": "none"},
        {"tool_choice": "auto", "tools": []},
        {"modalities": ["text"], "audio": None, "web_search_options": None},
        {"stop": None, "stream": None, "stream_options": None},
        {"stop": ["", ""]},
    ],
)
def test_what_changes_nothing(fields: dict[str, object]) -> None:
    assert to_chat_request(chat(**fields)) == to_chat_request(chat())


def test_sampling_is_explicit_where_it_was_given() -> None:
    fields = {
        "temperature": 0,
        "top_p": 0,
        "top_k": -1,
        "min_p": 0,
        "presence_penalty": 0,
        "frequency_penalty": 0,
        "repetition_penalty": 1,
        "min_tokens": 0,
        "n": 1,
        "seed": 0,
    }
    sampling = to_chat_request(chat(**fields, max_tokens=3, logprobs=True)).sampling
    for name in (*fields, "max_tokens", "logprobs"):
        assert sampling.HasField(name), name
    assert sampling.top_k == 0
    assert sampling.logprobs == 0
    assert not any(to_chat_request(chat()).sampling.HasField(name) for name in fields)


def test_deployment_id_is_the_model() -> None:
    assert to_chat_request(chat(model=None, deployment_id="d")).model == "d"
    assert to_chat_request(chat(deployment_id="d")).model == "m"


def test_identity() -> None:
    assert to_chat_request(chat(safety_identifier="s")).user == "s"
    request = to_chat_request(chat(safety_identifier="s", user="u", metadata={"a": "b"}))
    assert request.user == "u"
    assert dict(request.metadata) == {"a": "b"}


def test_images_travel_as_bytes() -> None:
    url = "data:image/png;base64," + base64.b64encode(b"png").decode()
    image = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    text = {"type": "text", "text": "a"}
    parts = to_chat_request(chat(messages=user(text, text, image, text))).messages[0].parts
    assert [p.WhichOneof("part") for p in parts] == ["text", "image", "text"]
    assert parts[0].text == "a\na"
    assert (parts[1].image.data, parts[1].image.mime_type) == (b"png", "image/png")


def test_named_tool() -> None:
    choice = {"type": "function", "function": {"name": "f"}}
    request = to_chat_request(chat(tools=[TOOL], tool_choice=choice))
    assert request.tool_choice.mode == message_pb2.ToolChoice.MODE_NAMED
    assert request.tool_choice.name == "f"


def test_an_assistant_that_called_needs_no_content() -> None:
    messages = [{"role": "assistant", "content": None, "tool_calls": [CALL]}]
    message = to_chat_request(chat(messages=messages)).messages[0]
    assert not message.parts
    assert message.tool_calls[0].id == "c"


def test_response_formats() -> None:
    assert not to_chat_request(chat(response_format={"type": "text"})).HasField("guide")
    assert to_chat_request(chat(response_format={"type": "json_object"})).guide.json_object
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    guide = to_chat_request(chat(response_format=form)).guide
    assert json.loads(guide.json_schema) == {"type": "object"}
    assert not guide.strict
    form["json_schema"]["strict"] = True  # type: ignore[index]
    assert to_chat_request(chat(response_format=form)).guide.strict


@pytest.mark.parametrize(
    ("fields", "param", "spelled"),
    [
        ({}, "sampling.top_k", "top_k"),
        ({}, "top_k", "top_k"),
        ({}, "sampling.stop[2]", "stop"),
        ({}, "sampling.stop_token_ids[2]", "stop_token_ids[2]"),
        ({"max_tokens": 1}, "sampling.max_tokens", "max_tokens"),
        ({"max_completion_tokens": 1}, "sampling.max_tokens", "max_completion_tokens"),
        ({"max_completion_tokens": 1}, "max_tokens", "max_completion_tokens"),
        ({"logprobs": True}, "sampling.logprobs", "logprobs"),
        ({"logprobs": True, "top_logprobs": 1}, "sampling.logprobs", "top_logprobs"),
        ({}, "guide", "response_format"),
        ({}, "guide.json_schema", "response_format"),
        ({}, "guide.json_object", "response_format"),
        ({}, "guide.strict", "response_format.json_schema.strict"),
        (
            {},
            "guide.json_schema.properties.a.not",
            "response_format.json_schema.schema.properties.a.not",
        ),
        (
            {},
            'guide.json_schema["$x y"].items',
            'response_format.json_schema.schema["$x y"].items',
        ),
        (
            {},
            "tools[2].parameters_json.properties.a.not",
            "tools[2].function.parameters.properties.a.not",
        ),
        (
            {"functions": [{"name": "f"}]},
            "tools[0].parameters_json.properties.a",
            "functions[0].parameters.properties.a",
        ),
        ({}, "messages[3].parts[1].image", "messages[3].content[1].image_url"),
        ({}, "messages[3].parts[1].image.data", "messages[3].content[1].image_url"),
        ({}, "messages[3].parts", "messages[3].content"),
        ({}, "messages[3].name", "messages[3].name"),
        ({}, "messages[0].tool_calls[1].name", "messages[0].tool_calls[1].function.name"),
        ({}, "tools[0].name", "tools[0].function.name"),
        ({}, "tools[0].parameters_json", "tools[0].function.parameters"),
        ({"functions": [{"name": "f"}]}, "tools[0].name", "functions[0].name"),
        ({"functions": [{"name": "f"}]}, "tools", "functions"),
        ({}, "tool_choice.name", "tool_choice.function.name"),
        ({"model": None, "deployment_id": "d"}, "model", "deployment_id"),
    ],
)
def test_chat_spelling(fields: dict[str, object], param: str, spelled: str) -> None:
    problem = Problem("INVALID_ARGUMENT", f"{param}: bad, says {param}.", param=param)
    respelled = chat_spelling(chat(**fields))(problem)
    assert respelled.param == spelled
    assert respelled.message == f"{spelled}: bad, says {spelled}."


@pytest.mark.parametrize(
    ("fields", "param", "spelled"),
    [
        ({}, "prompts[0].text", "prompt"),
        ({"prompt": [1]}, "prompts[0].token_ids.ids[0]", "prompt[0]"),
        ({"prompt": ["a", "b"]}, "prompts[1]", "prompt[1]"),
        ({}, "prompts", "prompt"),
        ({}, "suffix", "suffix"),
        ({}, "sampling.best_of", "best_of"),
    ],
)
def test_completion_spelling(fields: dict[str, object], param: str, spelled: str) -> None:
    problem = Problem("INVALID_ARGUMENT", "bad", param=param)
    assert completion_spelling(completion(**fields))(problem).param == spelled


def test_context_length_names_the_prompt() -> None:
    problem = Problem("CONTEXT_LENGTH_EXCEEDED", "too long")
    assert chat_spelling(chat())(problem).param == "messages"
    assert completion_spelling(completion())(problem).param == "prompt"
