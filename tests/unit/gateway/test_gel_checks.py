"""The order of Gel's checks: of several things that are wrong, the first is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.dialects.gel.checks import check_embeddings, check_rag
from gateway.errors import ProblemError

NO_MODEL = 'missing or empty required "model" value  in request'
NO_CONTEXT_QUERY = "missing required 'query' in request 'context' object"
GOOD: dict[str, Any] = {
    "context": {"query": "T"},
    "model": "m",
    "query": "q",
    "prompt": {"name": "p", "custom": [{"role": "user", "content": "x"}]},
}
ABSENT = object()


def put(body: Any, path: str, value: Any) -> Any:
    """Returns the body with one value changed."""
    copy = json.loads(json.dumps(body))
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    holder = copy
    for part in way:
        holder = holder.setdefault(part, {}) if isinstance(holder, dict) else holder[part]
    if value is ABSENT:
        del holder[last]
    else:
        holder[last] = value
    return copy


def said(body: Any, check: Any = check_rag) -> str:
    with pytest.raises(ProblemError) as caught:
        check(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert caught.value.problem.status == 400
    return caught.value.problem.message


RAG_ORDER: list[tuple[str, Any, str]] = [
    # Each row is put on top of all below it: its message must be the one told.
    ("context", None, 'missing required "context"'),
    ("context", [], '"context" value in request is not'),
    ("context.query", "", NO_CONTEXT_QUERY),
    ("context.variables", [], '"context.variables"'),
    ("context.globals", "g", '"context.globals"'),
    ("model", "", NO_MODEL),
    ("query", None, '"query"'),
    ("stream", "yes", '"stream"'),
    ("context.max_object_count", 0, '"context.max_object_count"'),
    ("prompt", "p", '"prompt" value'),
    ("prompt.id", "i", "exclude each other"),
    ("prompt.custom", {}, '"prompt.custom" must be a list'),
    ("prompt.custom.0.role", "developer", '"prompt.custom[0].role"'),
]


@pytest.mark.parametrize("row", range(len(RAG_ORDER)))
def test_the_first_of_many_faults_is_told(row: int) -> None:
    body: Any = GOOD
    for path, value, _ in reversed(RAG_ORDER[row:]):
        body = put(body, path, value)
    assert RAG_ORDER[row][2] in said(body)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("context.query", ABSENT, NO_CONTEXT_QUERY),
        ("context.query", None, NO_CONTEXT_QUERY),
        ("context.query", 0, NO_CONTEXT_QUERY),
        ("context.query", {"a": 1}, "must be a string"),
        ("model", ABSENT, NO_MODEL),
        ("model", None, NO_MODEL),
        ("model", 5, '"model" value in request must be a string'),
        ("query", ["q"], '"query" value in request must be a string'),
        ("stream", 1, '"stream"'),
        ("context.max_object_count", True, '"context.max_object_count"'),
        ("context.max_object_count", 1.0, '"context.max_object_count"'),
        ("context.max_object_count", -1, '"context.max_object_count"'),
        ("prompt.name", 5, '"prompt.name"'),
        ("prompt.custom.0", "x", '"prompt.custom[0]" must be a JSON object'),
        ("prompt.custom.0.role", ["user"], "role"),
        ("prompt.custom.0.content", None, "content"),
        ("prompt.custom.0.content", [], "content"),
        ("prompt.custom.0.content", [{"type": "image", "text": "x"}], "content"),
        ("prompt.custom.0.content", [{"type": "text"}], "content"),
        ("prompt.custom.0", {"role": "system", "content": [{"type": "text"}]}, "content"),
        ("prompt.custom.0", {"role": "assistant"}, "content"),
        ("prompt.custom.0", {"role": "assistant", "tool_calls": []}, "content"),
        ("prompt.custom.0", {"role": "assistant", "content": "", "tool_calls": 5}, "tool_calls"),
        (
            "prompt.custom.0",
            {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {}}]},
            '"prompt.custom[0].tool_calls[0]"',
        ),
        ("prompt.custom.0", {"role": "tool", "content": "x"}, "tool_call_id"),
        ("prompt.custom.0", {"role": "tool", "tool_call_id": "1"}, "content"),
    ],
)
def test_each_fault(path: str, value: Any, message: str) -> None:
    assert message in said(put(GOOD, path, value))


@pytest.mark.parametrize(
    "custom",
    [
        {"role": "user", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
        {"role": "system", "content": "x"},
        {"role": "assistant", "content": "x"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "x", "tool_call_id": "1", "more": 5},
    ],
)
def test_good_entries(custom: dict[str, Any]) -> None:
    check_rag(json.dumps(put(GOOD, "prompt.custom", [custom])).encode())


@pytest.mark.parametrize("body", [b"[]", b"5", b"null", b'"x"'])
@pytest.mark.parametrize("check", [check_rag, check_embeddings])
def test_what_is_no_object(body: bytes, check: Any) -> None:
    assert "JSON object" in said(body, check)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": "a", "input": "b"}, "not both"),
        ({"inputs": [], "input": 5, "model": ""}, "not both"),
        ({"model": ""}, 'missing required "inputs"'),
        ({}, 'missing required "inputs"'),
        ({"inputs": None, "input": None, "model": "m"}, 'missing required "inputs"'),
        ({"inputs": "", "model": "m"}, "must not be empty"),
        ({"inputs": []}, "must not be empty"),
        ({"inputs": {}}, "must be a string or a list"),
        ({"inputs": 5}, "must be a string or a list"),
        ({"inputs": ["a", ""]}, '"inputs[1]" value in request must not be empty'),
        ({"input": ["a", 5]}, '"input[1]" value in request must be a string'),
        ({"inputs": ["a"] * 2049}, "more than 2048"),
        ({"inputs": "a"}, NO_MODEL),
        ({"inputs": "a", "model": None}, NO_MODEL),
        ({"inputs": "a", "model": ""}, NO_MODEL),
        ({"inputs": "a", "model": 5}, "must be a string"),
    ],
)
def test_the_order_of_embeddings(body: dict[str, Any], message: str) -> None:
    assert message in said(body, check_embeddings)
