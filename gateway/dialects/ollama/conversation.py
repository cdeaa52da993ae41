"""Turns of a conversation and tools, translated into the inference service's."""

from collections.abc import Iterator, Sequence

from penstock.inference.v1 import message_pb2

from gateway.dialects.ollama import schema
from gateway.errors import invalid
from gateway.pictures import picture_bytes
from gateway.raw_json import json_object

_ROLES = {
    "system": message_pb2.ROLE_SYSTEM,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "tool": message_pb2.ROLE_TOOL,
}


def to_messages(messages: Sequence[schema.OllamaMessage]) -> list[message_pb2.Message]:
    """Translates a conversation. Calls and results that have no IDs get some.

    Raises:
        ProblemError: a message lacks what its role needs.
    """
    translated: list[message_pb2.Message] = []
    waiting: list[message_pb2.ToolCall] = []
    for number, message in enumerate(messages):
        path = f"messages[{number}]"
        result = message_pb2.Message(role=_ROLES[message.role])
        if message.role == "assistant":
            waiting = list(_calls(message, number))
            result.tool_calls.extend(waiting)
            result.reasoning = message.thinking or ""
        elif message.tool_calls:
            raise invalid(
                f"Invalid '{path}.tool_calls': only an assistant calls tools.", f"{path}.tool_calls"
            )
        elif message.thinking:
            raise invalid(
                f"Invalid '{path}.thinking': only an assistant thinks.", f"{path}.thinking"
            )
        if message.role == "tool":
            result.tool_call_id = message.tool_call_id or _answered(message, waiting, number)
        if message.content or not (message.images or message.tool_calls):
            result.parts.add(text=message.content or "")
        for image in images(message.images or (), f"{path}.images"):
            result.parts.add(image=image)
        translated.append(result)
    return translated


def images(encoded: Sequence[str], path: str) -> Iterator[message_pb2.Image]:
    """Reads images that are written in base64.

    Raises:
        ProblemError: one of them isn't.
    """
    for number, text in enumerate(encoded):
        yield message_pb2.Image(data=picture_bytes(text, f"{path}[{number}]"))


def to_tools(tools: Sequence[schema.OllamaTool]) -> list[message_pb2.Tool]:
    """Translates definitions of tools.

    Raises:
        ProblemError: parameters are not a JSON object.
    """
    return [
        message_pb2.Tool(
            name=tool.function.name,
            description=tool.function.description or "",
            parameters_json=json_object(
                tool.function.parameters, f"tools[{number}].function.parameters"
            ),
        )
        for number, tool in enumerate(tools)
    ]


def _calls(message: schema.OllamaMessage, number: int) -> Iterator[message_pb2.ToolCall]:
    for index, call in enumerate(message.tool_calls or ()):
        path = f"messages[{number}].tool_calls[{index}].function.arguments"
        yield message_pb2.ToolCall(
            id=call.id or f"call_{number}_{index}",
            name=call.function.name,
            arguments_json=json_object(call.function.arguments, path) or "{}",
        )


def _answered(
    message: schema.OllamaMessage, waiting: list[message_pb2.ToolCall], number: int
) -> str:
    """The call that a result belongs to: the first of that name, or else the first."""
    named = (call for call in waiting if call.name == message.tool_name)
    call = next(named, waiting[0] if waiting else None)
    if call is None:
        return f"call_{number}"
    waiting.remove(call)
    return call.id
