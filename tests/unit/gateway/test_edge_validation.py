"""Every way in which a body can be wrong, and what is said of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from gateway.dialects.openai import schema
from gateway.errors import Problem, ProblemError
from gateway.validation import decode

CHAT = msgspec.json.Decoder(schema.ChatCompletionRequest)
COMPLETION = msgspec.json.Decoder(schema.CompletionRequest)
MESSAGES = [{"role": "user", "content": "x"}]


def problem(decoder: msgspec.json.Decoder[Any], body: bytes) -> Problem:
    with pytest.raises(ProblemError) as caught:
        decode(decoder, body)
    return caught.value.problem


def chat(**fields: object) -> bytes:
    return json.dumps({"model": "m", "messages": MESSAGES, **fields}).encode()


@pytest.mark.parametrize(
    ("fields", "param", "code", "says"),
    [
        ({"model": 5}, "model", "invalid_type", "expected a string, but got an integer"),
        ({"messages": []}, "messages", "empty_array", "minimum length 1"),
        ({"messages": None}, "messages", "invalid_type", "expected an array, but got null"),
        ({"messages": "x"}, "messages", "invalid_type", "but got a string"),
        ({"messages": ["x"]}, "messages[0]", "invalid_type", "expected an object"),
        ({"messages": [{}]}, "messages[0].role", "missing_required_parameter", "messages[0].role"),
        (
            {"messages": [*MESSAGES, {"role": "user", "content": 5}]},
            "messages[1].content",
            "invalid_type",
            "expected one of a string or an array, but got an integer",
        ),
        (
            {"messages": [{"role": "king", "content": "x"}]},
            "messages[0].role",
            "invalid_value",
            "'king'. Supported values are: 'assistant', 'developer'",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}, {"type": "video"}]}]},
            "messages[0].content[1].type",
            "invalid_value",
            "'video'",
        ),
        ({"temperature": "1"}, "temperature", "invalid_type", "expected a decimal"),
        ({"temperature": True}, "temperature", "invalid_type", "but got a boolean"),
        ({"temperature": 2.5}, "temperature", "decimal_above_max_value", "<= 2, but got 2.5"),
        ({"temperature": -1}, "temperature", "decimal_below_min_value", ">= 0, but got -1"),
        ({"top_p": 1.1}, "top_p", "decimal_above_max_value", "<= 1"),
        ({"presence_penalty": -2.1}, "presence_penalty", "decimal_below_min_value", ">= -2"),
        ({"repetition_penalty": 0}, "repetition_penalty", "decimal_below_min_value", "> 0"),
        ({"n": 0}, "n", "integer_below_min_value", ">= 1, but got 0"),
        ({"n": 129}, "n", "integer_above_max_value", "<= 128, but got 129"),
        ({"n": True}, "n", "invalid_type", "expected an integer, but got a boolean"),
        ({"n": 1.5}, "n", "invalid_type", "but got a decimal"),
        ({"n": "1"}, "n", "invalid_type", "but got a string"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value", ">= 1"),
        ({"max_tokens": 2**31}, "max_tokens", "integer_above_max_value", "2147483647"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "integer_below_min_value", "-1"),
        ({"seed": 2**63}, "seed", "integer_above_max_value", "9223372036854775808"),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length", "maximum length 4"),
        ({"stop": ["a", 5]}, "stop[1]", "invalid_type", "expected a string"),
        ({"stop": 5}, "stop", "invalid_type", "one of a string or an array"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5", "decimal_above_max_value", "<= 100"),
        ({"logit_bias": {"5": "x"}}, "logit_bias.5", "invalid_type", "decimal"),
        ({"logit_bias": [1]}, "logit_bias", "invalid_type", "expected an object"),
        ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value", "<= 20"),
        ({"logprobs": 3}, "logprobs", "invalid_type", "expected a boolean"),
        ({"stream": "true"}, "stream", "invalid_type", "expected a boolean"),
        ({"user": "u" * 513}, "user", "string_above_max_length", "length 513"),
        ({"metadata": {"k": 5}}, "metadata.k", "invalid_type", "expected a string"),
        (
            {"metadata": {str(n): "" for n in range(17)}},
            "metadata",
            "object_above_max_properties",
            "at most 16",
        ),
        ({"tools": [{"type": "x"}]}, "tools[0].type", "invalid_value", "'function'"),
        (
            {"tools": [{"type": "function", "function": {"name": ""}}]},
            "tools[0].function.name",
            "string_below_min_length",
            "minimum length 1",
        ),
        (
            {"response_format": {"type": "xml"}},
            "response_format.type",
            "invalid_value",
            "'json_object', 'json_schema', 'text'",
        ),
        ({"store": "yes"}, "store", "invalid_type", "boolean"),
        ({"reasoning_effort": 5}, "reasoning_effort", "invalid_type", "string"),
        ({"modalities": "text"}, "modalities", "invalid_type", "array"),
    ],
)
def test_chat(fields: dict[str, object], param: str, code: str, says: str) -> None:
    found = problem(CHAT, chat(**fields))
    assert (found.param, found.code) == (param, code)
    assert says in found.message
    assert found.status == 400


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": None}, "prompt", "invalid_type"),
        ({"prompt": []}, "prompt", "empty_array"),
        ({"prompt": 5}, "prompt", "invalid_type"),
        ({"prompt": [1.5]}, "prompt[0]", "invalid_type"),
        ({"prompt": [-1]}, "prompt[0]", "integer_below_min_value"),
        ({"prompt": [[]]}, "prompt[0]", "empty_array"),
        ({"prompt": [[1, "x"]]}, "prompt[0][1]", "invalid_type"),
        ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
        ({"logprobs": True}, "logprobs", "invalid_type"),
        ({"best_of": 21}, "best_of", "integer_above_max_value"),
        ({"max_tokens": -1}, "max_tokens", "integer_below_min_value"),
        ({"echo": 1}, "echo", "invalid_type"),
        ({"suffix": 1}, "suffix", "invalid_type"),
    ],
)
def test_completion(fields: dict[str, object], param: str, code: str) -> None:
    found = problem(COMPLETION, json.dumps({"model": "m", "prompt": "x", **fields}).encode())
    assert (found.param, found.code) == (param, code)


def test_missing_fields() -> None:
    assert problem(CHAT, b"").param == "messages"
    found = problem(COMPLETION, b"{}")
    assert (found.reason, found.param, found.code) == (
        "MISSING_FIELD",
        "prompt",
        "missing_required_parameter",
    )


@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"null", b"true", b"{", b"\xff", b"{}x"])
def test_not_an_object(body: bytes) -> None:
    found = problem(CHAT, body)
    assert (found.reason, found.param, found.status) == ("MALFORMED_BODY", None, 400)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(temperature=1).replace(b'"temperature": 1', b'"temperature": 1e999'), "temperature"),
        (
            chat(temperature=1).replace(b'"temperature": 1', b'"temperature":' + b"9" * 9999),
            "temperature",
        ),
        (chat(n=1).replace(b'"n": 1', b'"n": ' + b"9" * 9999), "n"),
        (chat(n=1).replace(b'"n": 1', b'"n": -' + b"9" * 9999), "n"),
    ],
)
def test_numbers_without_end(body: bytes, param: str) -> None:
    found = problem(CHAT, body)
    assert (found.status, found.param) == (400, param)
    assert len(found.message) < 300


def test_a_body_too_large_to_explain_is_told_in_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.validation._EXPLAINED_BYTES", 10)
    found = problem(CHAT, chat(messages=[{"role": "user", "content": 5}]))
    assert (found.param, found.code) == ("messages[0].content", "invalid_type")
    found = problem(CHAT, chat(n=0))
    assert (found.param, found.code) == ("n", "invalid_value")
    found = problem(CHAT, chat(messages=[{"content": "x"}]))
    assert (found.param, found.code) == ("messages[0].role", "missing_required_parameter")


def test_broken_json_is_said_before_wrong_fields() -> None:
    assert problem(CHAT, chat(n="x")[:-1] + b", broken").reason == "MALFORMED_BODY"


def null_fields() -> list[str]:
    info = inspect.type_info(schema.ChatCompletionRequest)
    assert isinstance(info, inspect.StructType)
    return [f.name for f in info.fields if not f.required]


@pytest.mark.parametrize("name", null_fields())
def test_null_is_absent(name: str) -> None:
    body = decode(CHAT, chat(**({"model": "m"} | {name: None})))
    assert body.messages[0].content == "x"


def test_unknown_fields_are_ignored() -> None:
    assert decode(CHAT, chat(brand_new={"a": [1]})).model == "m"


def test_duplicate_keys_take_the_last() -> None:
    assert decode(COMPLETION, b'{"model":"a","prompt":"x","model":"b"}').model == "b"
