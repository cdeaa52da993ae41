"""Messages and tools of a chat request, translated into the inference service's."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from penstock.inference.v1 import message_pb2

from gateway.dialects.openai import schema
from gateway.errors import ProblemError, invalid
from gateway.raw_json import DEEPEST_JSON, json_object, load_json
from gateway.validation import missing

Written = TypeVar("Written")
"""A part as a client writes it."""

_ROLES = {
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_SYSTEM,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "tool": message_pb2.ROLE_TOOL,
    "function": message_pb2.ROLE_TOOL,
}

_MODES = {
    "none": message_pb2.ToolChoice.MODE_NONE,
    "auto": message_pb2.ToolChoice.MODE_AUTO,
    "required": message_pb2.ToolChoice.MODE_REQUIRED,
}


def to_messages(messages: Sequence[schema.ChatMessage]) -> list[message_pb2.Message]:
    """Translates a conversation.

    Raises:
        ProblemError: a message lacks what its role needs.
    """
    translated: list[message_pb2.Message] = []
    function_call_id = ""
    for number, message in enumerate(messages):
        path = f"messages[{number}]"
        result = message_pb2.Message(role=_ROLES[message.role], name=message.name or "")
        if message.role == "assistant":
            _add_calls(result, message, path, number)
            if message.function_call is not None:
                function_call_id = result.tool_calls[-1].id
            result.reasoning = _reasoning(message, path)
        elif message.role == "tool":
            if not message.tool_call_id:
                raise missing(f"{path}.tool_call_id")
            result.tool_call_id = message.tool_call_id
        elif message.role == "function":
            if not message.name:
                raise missing(f"{path}.name")
            result.tool_call_id = function_call_id or f"call_{number}"
        result.parts.extend(_parts(message, path))
        if not result.parts and not result.tool_calls:
            if not result.reasoning:
                raise missing(f"{path}.content")
            # It was cut while it thought.
            result.parts.add(text="")
        translated.append(result)
    return translated


def _reasoning(message: schema.ChatMessage, path: str) -> str:
    thought, other = message.reasoning_content or "", message.reasoning or ""
    if thought and other and thought != other:
        raise invalid(
            f"'{path}.reasoning' and '{path}.reasoning_content' are two names of one field, and "
            "differ here.",
            f"{path}.reasoning",
        )
    return thought or other


def _add_calls(
    result: message_pb2.Message, message: schema.ChatMessage, path: str, number: int
) -> None:
    for index, call in enumerate(message.tool_calls or ()):
        where = f"{path}.tool_calls[{index}].function.arguments"
        result.tool_calls.add(
            id=call.id, name=call.function.name, arguments_json=_arguments(call.function, where)
        )
    if message.function_call is not None:
        where = f"{path}.function_call.arguments"
        result.tool_calls.add(
            id=f"call_{number}",
            name=message.function_call.name,
            arguments_json=_arguments(message.function_call, where),
        )


def _arguments(call: schema.FunctionCall, path: str) -> str:
    # What a model once wrote need not be JSON; but what is, must not be nested without end.
    arguments = call.arguments
    if arguments.count("[") + arguments.count("{") > DEEPEST_JSON:
        load_json(arguments.encode(), path)
    return arguments


def _parts(message: schema.ChatMessage, path: str) -> list[message_pb2.Part]:
    content = message.content
    if content is None:
        refusal = message.refusal
        return [message_pb2.Part(text=refusal)] if refusal else []
    if isinstance(content, str):
        return [message_pb2.Part(text=content)]
    return to_parts(content, f"{path}.content", _part)


def _part(part: schema.ContentPart, path: str) -> str | message_pb2.Image:
    if part.type == "image_url":
        return _image(part, path)
    text = part.text if part.type == "text" else part.refusal
    if text is None:
        raise missing(f"{path}.{part.type}")
    return text


def to_parts(
    content: Sequence[Written], path: str, read: Callable[[Written, str], str | message_pb2.Image]
) -> list[message_pb2.Part]:
    """Translates what a message is made of; texts that follow each other become one, in lines.

    Raises:
        ProblemError: there is nothing, or `read` can't take a part.
    """
    if not content:
        raise invalid(
            f"Invalid '{path}': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            path,
            "empty_array",
        )
    parts: list[message_pb2.Part] = []
    for number, written in enumerate(content):
        found = read(written, f"{path}[{number}]")
        if isinstance(found, message_pb2.Image):
            parts.append(message_pb2.Part(image=found))
        elif parts and parts[-1].HasField("text"):
            parts[-1].text += "\n" + found
        else:
            parts.append(message_pb2.Part(text=found))
    return parts


def _image(part: schema.ContentPart, path: str) -> message_pb2.Image:
    if part.image_url is None:
        raise missing(f"{path}.image_url")
    return data_image(
        part.image_url if isinstance(part.image_url, str) else part.image_url.url, path
    )


def data_image(url: str, path: str) -> message_pb2.Image:
    """Reads the image in a data URL, which stands in `image_url` of a part.

    Raises:
        ProblemError: it is another URL, or holds no base64.
    """
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise invalid(
            f"Invalid '{path}.image_url': images are taken as data URLs "
            "('data:image/png;base64,...'); other URLs are never fetched.",
            f"{path}.image_url",
        )
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise invalid(f"Invalid '{path}.image_url': not valid base64.", f"{path}.image_url")
    return message_pb2.Image(data=content, mime_type=head[len("data:") : -len(";base64")])


def to_tools(functions: Sequence[schema.FunctionDefinition], paths: str) -> list[message_pb2.Tool]:
    """Translates function definitions; `paths` names the n-th one, as in `tools[{}].function`.

    Raises:
        ProblemError: parameters are not a JSON object.
    """
    tools: list[message_pb2.Tool] = []
    for number, function in enumerate(functions):
        path = paths.format(number)
        tools.append(
            message_pb2.Tool(
                name=function.name,
                description=function.description or "",
                parameters_json=json_object(function.parameters, f"{path}.parameters"),
                strict=bool(function.strict),
            )
        )
    return tools


def to_tool_choice(
    choice: str | schema.ToolChoice | schema.FunctionName | None,
    param: str,
    tools: Sequence[message_pb2.Tool],
) -> message_pb2.ToolChoice | None:
    """Translates the choice of tools.

    Raises:
        ProblemError: the choice is unknown, or wants a tool that isn't given.
    """
    if choice is None:
        return None
    if isinstance(choice, str):
        mode = _MODES.get(choice)
        if mode is None:
            names = ", ".join(f"'{name}'" for name in _MODES)
            raise invalid(f"Invalid value: '{choice[:64]}'. Supported values are: {names}.", param)
        if mode == message_pb2.ToolChoice.MODE_REQUIRED and not tools:
            raise _without_tools(param)
        return message_pb2.ToolChoice(mode=mode) if tools else None
    name = choice.name if isinstance(choice, schema.FunctionName) else choice.function.name
    if not tools:
        raise _without_tools(param)
    if all(tool.name != name for tool in tools):
        raise invalid(f"Invalid '{param}': there is no tool named '{name[:64]}'.", param)
    return message_pb2.ToolChoice(mode=message_pb2.ToolChoice.MODE_NAMED, name=name)


def _without_tools(param: str) -> ProblemError:
    return invalid(f"'{param}' is only allowed when 'tools' are specified.", param)
