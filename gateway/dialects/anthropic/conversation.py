"""Turns of a conversation and their content blocks, translated into the inference service's."""

from collections.abc import Sequence

from penstock.inference.v1 import message_pb2

from gateway.dialects.anthropic import schema
from gateway.errors import invalid, unsupported
from gateway.pictures import picture_bytes
from gateway.raw_json import json_object
from gateway.validation import missing

_ROLES = {
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "system": message_pb2.ROLE_SYSTEM,
}
_JOINED = frozenset(_ROLES.values())
"""Turns of the same speaker that follow each other are one; results of tools are one each."""

_FAILED = "Error: "


class Conversation:
    """Grows piece by piece, and knows where in the request each piece stood."""

    def __init__(self) -> None:
        self.messages: list[message_pb2.Message] = []
        self.places: list[list[str]] = []
        """Of each part of each message."""

    def turn(self, role: message_pb2.Role.ValueType, call_id: str = "") -> message_pb2.Message:
        """The message that a speaker goes on with, or a new one."""
        if not self.messages or self.messages[-1].role != role or role not in _JOINED:
            self.messages.append(message_pb2.Message(role=role, tool_call_id=call_id))
            self.places.append([])
        return self.messages[-1]

    def say(self, role: message_pb2.Role.ValueType, part: message_pb2.Part, place: str) -> None:
        """Adds a part to what a speaker says."""
        self.turn(role).parts.append(part)
        self.places[-1].append(place)

    def think(self, thought: str) -> None:
        """Adds what the assistant thought; several thoughts of one turn are paragraphs."""
        turn = self.turn(message_pb2.ROLE_ASSISTANT)
        turn.reasoning = "\n\n".join(filter(None, (turn.reasoning, thought)))

    def answer(self, call_id: str, parts: Sequence[message_pb2.Part], places: list[str]) -> None:
        """Adds the result of a tool call."""
        self.turn(message_pb2.ROLE_TOOL, call_id).parts.extend(parts)
        self.places[-1].extend(places)


def to_conversation(
    system: str | Sequence[schema.SystemBlock] | None, messages: Sequence[schema.MessageParam]
) -> Conversation:
    """Translates instructions and turns.

    Raises:
        ProblemError: a block lacks what its type needs, or is not this speaker's to send.
    """
    talk = Conversation()
    if isinstance(system, str):
        if system:
            talk.say(message_pb2.ROLE_SYSTEM, message_pb2.Part(text=system), "system")
    else:
        for number, block in enumerate(system or ()):
            part = message_pb2.Part(text=block.text)
            talk.say(message_pb2.ROLE_SYSTEM, part, f"system[{number}].text")
    for number, message in enumerate(messages):
        _add(talk, message, f"messages[{number}].content")
    if messages[-1].role == "assistant":
        raise invalid(
            "This server does not support assistant message prefill. "
            "The conversation must end with a user message.",
            "messages",
        )
    return talk


def _add(talk: Conversation, message: schema.MessageParam, path: str) -> None:
    role, content = _ROLES[message.role], message.content
    if isinstance(content, str):
        talk.say(role, message_pb2.Part(text=content), path)
        return
    if not content and message.role != "assistant":
        raise invalid(
            f"Invalid '{path}': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            path,
            "empty_array",
        )
    for number, block in enumerate(content):
        _add_block(talk, message.role, block, f"{path}[{number}]")
    if message.role == "assistant":
        turn = talk.turn(role)  # an answer may have been nothing, or nothing but thoughts
        if not turn.parts and not turn.tool_calls:
            talk.say(role, message_pb2.Part(text=""), path)


def _add_block(talk: Conversation, speaker: str, block: schema.ContentBlock, path: str) -> None:
    kind = block.type
    if kind == "text":
        talk.say(_ROLES[speaker], _text(block, path), f"{path}.text")
    elif kind == "image" and speaker == "user":
        talk.say(_ROLES[speaker], _image(block, path), f"{path}.source")
    elif kind == "tool_result" and speaker == "user":
        _add_result(talk, block, path)
    elif kind == "tool_use" and speaker == "assistant":
        if not block.id:
            raise missing(f"{path}.id")
        if not block.name:
            raise missing(f"{path}.name")
        arguments = json_object(block.input, f"{path}.input") or "{}"
        turn = talk.turn(message_pb2.ROLE_ASSISTANT)
        turn.tool_calls.add(id=block.id, name=block.name, arguments_json=arguments)
    elif kind == "thinking" and speaker == "assistant":
        if block.thinking is None:
            raise missing(f"{path}.thinking")
        talk.think(block.thinking)
    elif kind != "redacted_thinking" or speaker != "assistant":
        raise invalid(
            f"Invalid '{path}.type': a message of the {speaker} can't hold '{kind}'.",
            f"{path}.type",
        )


def _add_result(talk: Conversation, block: schema.ContentBlock, path: str) -> None:
    if not block.tool_use_id:
        raise missing(f"{path}.tool_use_id")
    content = block.content
    parts: list[message_pb2.Part] = []
    places: list[str] = []
    if isinstance(content, list):
        for number, piece in enumerate(content):
            where = f"{path}.content[{number}]"
            shown = piece.type == "image"
            parts.append(_image(piece, where) if shown else _text(piece, where))
            places.append(f"{where}.source" if shown else f"{where}.text")
    if isinstance(content, str) or not parts:
        parts.append(message_pb2.Part(text=content if isinstance(content, str) else ""))
        places.append(f"{path}.content")
    if block.is_error:
        parts[0] = _failed(parts[0], parts)
    talk.answer(block.tool_use_id, parts, places)


def _failed(first: message_pb2.Part, parts: list[message_pb2.Part]) -> message_pb2.Part:
    """Templates have no place for "it failed": the text says so."""
    if first.HasField("text"):
        return message_pb2.Part(text=_FAILED + first.text)
    parts.append(message_pb2.Part(text=_FAILED.strip()))
    return first


def _text(block: schema.ContentBlock | schema.ResultBlock, path: str) -> message_pb2.Part:
    if block.text is None:
        raise missing(f"{path}.text")
    return message_pb2.Part(text=block.text)


def _image(block: schema.ContentBlock | schema.ResultBlock, path: str) -> message_pb2.Part:
    source = block.source
    if source is None:
        raise missing(f"{path}.source")
    if source.type != "base64":
        raise invalid(
            f"Invalid '{path}.source.type': images are taken as 'base64'; nothing is fetched.",
            f"{path}.source.type",
        )
    if source.data is None:
        raise missing(f"{path}.source.data")
    if source.media_type is None:
        raise missing(f"{path}.source.media_type")
    data = picture_bytes(source.data, f"{path}.source.data")
    return message_pb2.Part(image=message_pb2.Image(data=data, mime_type=source.media_type))


def to_tools(tools: Sequence[schema.ToolParam]) -> list[message_pb2.Tool]:
    """Translates definitions of tools.

    Raises:
        ProblemError: one of them is none that the caller runs, or its schema is no object.
    """
    translated: list[message_pb2.Tool] = []
    for number, tool in enumerate(tools):
        path = f"tools[{number}]"
        if tool.type not in (None, "custom"):
            raise unsupported(f"{path}.type", f"there is no tool '{tool.type[:64]}' here")
        if tool.defer_loading:
            raise unsupported(f"{path}.defer_loading", "there is no tool search")
        parameters = json_object(tool.input_schema, f"{path}.input_schema")
        if not parameters:
            raise missing(f"{path}.input_schema")
        translated.append(
            message_pb2.Tool(
                name=tool.name,
                description=tool.description or "",
                parameters_json=parameters,
                strict=bool(tool.strict),
            )
        )
    return translated
