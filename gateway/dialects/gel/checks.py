"""Checks bodies in the order in which Gel does: the first thing that is wrong is the one told."""

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from gateway.errors import Problem, ProblemError, invalid
from gateway.validation import decode

NO_MODEL = 'missing or empty required "model" value  in request'
"""As Gel prints it, with two blanks."""

NO_CONTEXT_QUERY = "missing required 'query' in request 'context' object"

_MOST_INPUTS = 2048
_ANY = msgspec.json.Decoder[object](object)
_ROLES = ("system", "user", "assistant", "tool")

Body = Mapping[str, Any]


def check_embeddings(data: bytes) -> None:
    """Checks the body of a request for embeddings.

    Raises:
        ProblemError: it is not as Gel wants it.
    """
    body = _object(data)
    given = [name for name in ("inputs", "input") if body.get(name) is not None]
    if len(given) == 2:
        raise _wrong('give either "inputs" or "input" in the request, not both', "inputs")
    name = given[0] if given else "inputs"
    _check_inputs(body.get(name), name)
    _text(body, "model", NO_MODEL)


def check_rag(data: bytes) -> None:
    """Checks the body of a request for an answer.

    Raises:
        ProblemError: it is not as Gel wants it.
    """
    body = _object(data)
    if body.get("context") is None:
        raise _missing('missing required "context" object in request', "context")
    context = _fields(body["context"])
    if context is None:
        raise _wrong('"context" value in request is not a JSON object', "context")
    _check_context(context)
    _text(body, "model", NO_MODEL)
    _text(body, "query", 'missing or empty required "query" value in request')
    if not isinstance(body.get("stream"), bool | None):
        raise _wrong('"stream" value in request is not a boolean', "stream")
    count = context.get("max_object_count")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise _wrong(
            '"context.max_object_count" must be a positive integer', "context.max_object_count"
        )
    if body.get("prompt") is not None:
        prompt = _fields(body["prompt"])
        if prompt is None:
            raise _wrong('"prompt" value in request must be a JSON object', "prompt")
        _check_prompt(prompt)


def _check_inputs(inputs: object, name: str) -> None:
    if inputs is None:
        raise _missing(f'missing required "{name}" value in request', name)
    if not isinstance(inputs, str | list):
        raise _wrong(f'"{name}" value in request must be a string or a list of strings', name)
    if not inputs:
        raise _wrong(f'"{name}" value in request must not be empty', name)
    texts = cast("list[object]", inputs if isinstance(inputs, list) else [inputs])
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text:
            what = "not be empty" if isinstance(text, str) else "be a string"
            raise _wrong(f'"{name}[{number}]" value in request must {what}', f"{name}[{number}]")
    if len(texts) > _MOST_INPUTS:
        raise _wrong(f'"{name}" value in request has more than {_MOST_INPUTS} items', name)


def _check_context(context: Body) -> None:
    query = context.get("query")
    if not query:
        raise _missing(NO_CONTEXT_QUERY, "context.query")
    if not isinstance(query, str):
        raise _wrong("'query' in request 'context' object must be a string", "context.query")
    for name in ("variables", "globals"):
        if not isinstance(context.get(name), dict | None):
            raise _wrong(f'"context.{name}" in request must be a JSON object', f"context.{name}")


def _check_prompt(prompt: Body) -> None:
    for name in ("name", "id"):
        if not isinstance(prompt.get(name), str | None):
            raise _wrong(f'"prompt.{name}" must be a string', f"prompt.{name}")
    if prompt.get("name") is not None and prompt.get("id") is not None:
        raise _wrong('"prompt.name" and "prompt.id" exclude each other', "prompt")
    custom = prompt.get("custom")
    if custom is None:
        return
    if not isinstance(custom, list):
        raise _wrong('"prompt.custom" must be a list', "prompt.custom")
    for number, item in enumerate(cast("list[object]", custom)):
        path = f"prompt.custom[{number}]"
        entry = _fields(item)
        if entry is None:
            raise _wrong(f'"{path}" must be a JSON object', path)
        _check_entry(entry, path)


def _check_entry(entry: Body, path: str) -> None:
    role, content = entry.get("role"), entry.get("content")
    if role not in _ROLES:
        names = ", ".join(f'"{name}"' for name in _ROLES)
        raise _wrong(f'"{path}.role" must be one of {names}', f"{path}.role")
    if role == "user":
        _check_user_content(content, path)
    elif role == "assistant" and content is None and entry.get("tool_calls"):
        pass  # an answer of nothing but calls, sent back as it came
    elif not isinstance(content, str):
        raise _wrong(f'"{path}.content" of a {role} message must be a string', f"{path}.content")
    if role == "assistant" and entry.get("tool_calls") is not None:
        _check_calls(entry["tool_calls"], f"{path}.tool_calls")
    call_id = entry.get("tool_call_id")
    if role == "tool" and (not isinstance(call_id, str) or not call_id):
        raise _wrong(
            f'"{path}.tool_call_id" of a tool message must be a string', f"{path}.tool_call_id"
        )


def _check_user_content(content: object, path: str) -> None:
    if isinstance(content, str):
        return
    parts = cast("list[object]", content) if isinstance(content, list) else []
    good = bool(parts)
    for part in parts:
        fields = _fields(part) or {}
        good &= fields.get("type") == "text" and isinstance(fields.get("text"), str)
    if not good:
        raise _wrong(
            f'"{path}.content" of a user message must be a string or a list of '
            '{"type": "text", "text": string}',
            f"{path}.content",
        )


def _check_calls(calls: object, path: str) -> None:
    if not isinstance(calls, list):
        raise _wrong(f'"{path}" must be a list', path)
    for number, call in enumerate(cast("list[object]", calls)):
        fields = _fields(call) or {}
        inner = _fields(fields.get("function")) or {}
        if (
            not isinstance(fields.get("id"), str)
            or fields.get("type", "function") != "function"
            or not isinstance(inner.get("name"), str)
            or not isinstance(inner.get("arguments"), str)
        ):
            raise _wrong(
                f'"{path}[{number}]" must look like {{"id": string, "type": "function", '
                '"function": {"name": string, "arguments": string}}',
                f"{path}[{number}]",
            )


def _object(data: bytes) -> Body:
    body = _fields(decode(_ANY, data))
    if body is None:
        message = "the body of the request must be a JSON object"
        raise ProblemError(Problem("MALFORMED_BODY", message))
    return body


def _fields(value: object) -> Body | None:
    return cast("Body", value) if isinstance(value, dict) else None


def _text(body: Body, name: str, lacking: str) -> None:
    value = body.get(name)
    if value is None or value == "":
        raise _missing(lacking, name)
    if not isinstance(value, str):
        raise _wrong(f'"{name}" value in request must be a string', name)


def _missing(message: str, param: str) -> ProblemError:
    return invalid(message, param, "missing_required_parameter", "MISSING_FIELD")


def _wrong(message: str, param: str) -> ProblemError:
    return invalid(message, param)
