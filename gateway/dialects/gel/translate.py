"""Requests of the dialect, translated into those of the services. No I/O."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from google.protobuf import struct_pb2
from penstock.embedding.v1 import embedding_pb2, embedding_service_pb2
from penstock.inference.v1 import message_pb2, sampling_pb2
from penstock.retrieval.v1 import answer_pb2, retrieval_service_pb2

from gateway.dialects.gel import schema
from gateway.errors import Problem, invalid
from gateway.raw_json import json_object

_DEEPEST_VALUE = 16
_EXACT = 2**53
_INT64_MAX = 2**63 - 1
_INT32_MAX = 2**31 - 1

_ROLES = {
    "system": message_pb2.ROLE_SYSTEM,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "tool": message_pb2.ROLE_TOOL,
}

_SPELLINGS: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern), spelled)
    for pattern, spelled in (
        (r"^inputs\[(\d+)\].*$", r"inputs[\1]"),
        (r"^context\.expression$", "context.query"),
        (r"^prompt\.custom_messages(\[\d+\])\.parts.*$", r"prompt.custom\1.content"),
        (r"^prompt\.custom_messages", "prompt.custom"),
        (r"^(tools\[\d+\])\.parameters_json(?![\w])", r"\1.function.parameters"),
        (r"^(tools\[\d+\])\.(name|description|strict)$", r"\1.function.\2"),
        (r"^sampling\.(.+)$", r"\1"),
    )
)


def to_embed_request(body: schema.BranchEmbeddingsRequest) -> embedding_service_pb2.EmbedRequest:
    """Translates a request for vectors."""
    inputs = body.inputs if body.inputs is not None else body.input or []
    texts = [inputs] if isinstance(inputs, str) else inputs
    return embedding_service_pb2.EmbedRequest(
        model=body.model,
        inputs=[embedding_pb2.EmbeddingInput(text=text) for text in texts],
        dimensions=body.dimensions,
        user=body.user or "",
    )


def to_answer_request(body: schema.RagRequest, tenant: str) -> retrieval_service_pb2.AnswerRequest:
    """Translates a request for an answer.

    Raises:
        ProblemError: a value can't be passed on, or the prompt's name is none.
    """
    context = answer_pb2.AnswerContext(
        expression=body.context.query,
        variables=_struct(body.context.variables, "context.variables"),
        globals=_struct(body.context.globals, "context.globals"),
        max_object_count=body.context.max_object_count,
    )
    request = retrieval_service_pb2.AnswerRequest(
        parent=f"tenants/{tenant}",
        model=body.model,
        query=body.query,
        context=context,
        sampling=_sampling(body),
        tools=_tools(body.tools or ()),
        safe_prompt=bool(body.safe_prompt),
        user=body.user or "",
    )
    if body.prompt is not None:
        request.prompt.CopyFrom(_prompt(body.prompt, tenant))
    return request


def respelled(problem: Problem) -> Problem:
    """Spells the field of a service's problem, and the mention of it, as the dialect does."""
    param = problem.param or ""
    for pattern, spelled in _SPELLINGS:
        found, count = pattern.subn(spelled, param)
        if count:
            mention = re.compile(rf"(?<![\w.\[]){re.escape(param)}(?![\w\[])")
            message = mention.sub(found.replace("\\", r"\\"), problem.message)
            return replace(problem, param=found, message=message)
    return problem


def wants_logprobs(body: schema.RagRequest) -> bool:
    """Tells whether tokens are told with their probabilities."""
    return body.logprobs is not None and body.logprobs is not False


def _prompt(prompt: schema.RagPrompt, tenant: str) -> answer_pb2.AnswerPrompt:
    key, field = prompt.name, "prompt.name"
    if key is None:
        key, field = prompt.id, "prompt.id"
    if key is not None and (not key or "/" in key):
        raise invalid(f'there is no prompt {key[:128]!r}: "{field}" names none', field)
    messages = [
        _message(entry, f"prompt.custom[{number}]")
        for number, entry in enumerate(prompt.custom or ())
    ]
    name = "" if key is None else f"tenants/{tenant}/prompts/{key}"
    return answer_pb2.AnswerPrompt(name=name, custom_messages=messages)


def _message(entry: schema.CustomMessage, path: str) -> message_pb2.Message:
    content = entry.content
    texts = [content] if isinstance(content, str) else [part.text for part in content or ()]
    message = message_pb2.Message(role=_ROLES[entry.role])
    text = "\n".join(texts)
    if texts and (text or not entry.tool_calls):
        message.parts.add(text=text)
    if entry.role == "tool":
        message.tool_call_id = entry.tool_call_id or ""
    if entry.role == "assistant":
        for call in entry.tool_calls or ():
            function = call.function
            message.tool_calls.add(
                id=call.id, name=function.name, arguments_json=function.arguments
            )
    if not message.parts and not message.tool_calls:
        raise invalid(f'"{path}.content" must not be empty', f"{path}.content")
    return message


def _tools(tools: Sequence[schema.RagTool]) -> list[message_pb2.Tool]:
    return [
        message_pb2.Tool(
            name=tool.function.name,
            description=tool.function.description or "",
            parameters_json=json_object(
                tool.function.parameters, f"tools[{number}].function.parameters"
            ),
            strict=bool(tool.function.strict),
        )
        for number, tool in enumerate(tools)
    ]


def _sampling(body: schema.RagRequest) -> sampling_pb2.Sampling:
    sampling = sampling_pb2.Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=None if body.top_k is None else max(body.top_k, 0),
        max_tokens=body.max_tokens,
        seed=body.seed,
    )
    if wants_logprobs(body):
        sampling.logprobs = int(body.logprobs or 0) if body.logprobs is not True else 0
    for key, bias in (body.logit_bias or {}).items():
        sampling.logit_bias[_token_id(key)] = bias
    return sampling


def _token_id(key: str) -> int:
    # At most ten digits, so that no text becomes a number of millions of digits.
    if not key.isascii() or not key.isdigit() or len(key) > 10 or int(key) > _INT32_MAX:
        raise invalid(
            '"logit_bias" must have token IDs for keys, as texts of whole numbers', "logit_bias"
        )
    return int(key)


def _struct(values: Mapping[str, Any] | None, path: str) -> struct_pb2.Struct | None:
    if values is None:
        return None
    fields = {name: _value(value, path, _DEEPEST_VALUE) for name, value in values.items()}
    return struct_pb2.Struct(fields=fields)


def _value(value: object, path: str, depth: int) -> struct_pb2.Value:
    if depth == 0:
        raise invalid(f'"{path}" is nested over {_DEEPEST_VALUE} levels deep', path)
    match value:
        case None:
            return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
        case bool():
            return struct_pb2.Value(bool_value=value)
        case int() if _EXACT < abs(value) <= _INT64_MAX:
            return struct_pb2.Value(string_value=str(value))  # as numbers, digits would be lost
        case int() | float():
            return struct_pb2.Value(number_value=_number(value, path))
        case str():
            return struct_pb2.Value(string_value=value)
        case list():
            items = [_value(item, path, depth - 1) for item in cast("list[object]", value)]
            return struct_pb2.Value(list_value=struct_pb2.ListValue(values=items))
        case _:
            inner = cast("dict[str, object]", value)
            fields = {name: _value(item, path, depth - 1) for name, item in inner.items()}
            return struct_pb2.Value(struct_value=struct_pb2.Struct(fields=fields))


def _number(value: float, path: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise invalid(f'"{path}" has a number that is out of range', path) from None
