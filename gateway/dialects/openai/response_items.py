"""Items of a conversation: what is kept of them, and the messages that they are. No I/O."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from penstock.inference.v1 import message_pb2

from gateway.context import new_id
from gateway.dialects.openai.conversation import data_image, to_parts
from gateway.dialects.openai.response_schema import InputItem, InputPart
from gateway.errors import ProblemError, invalid
from gateway.raw_json import DEEPEST_JSON, load_json
from gateway.validation import missing

_PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "reasoning": "rs_",
    "file_search_call": "fs_",
}
"""Kinds of items that are taken, and how their IDs begin."""
REFERENCE = "item_reference"
"""Stands for an item that is stored."""

_ROLES = {
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_SYSTEM,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
}
_TEXTS = ("input_text", "output_text", "text")
_REASONING_TEXT = "reasoning_text"
_ITEM_ID = re.compile("[!-~]{1,128}")
_NOTHING = msgspec.Raw(b"[]")
_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """An item, and where it comes from."""

    item: InputItem
    path: str
    """The field of the request."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The messages of a conversation, each with the field of the request that it comes from."""

    messages: list[message_pb2.Message]
    origins: list[str]


def kind_of(item: InputItem, path: str) -> str:
    """Tells what an item is.

    Raises:
        ProblemError: it is nothing that is taken here.
    """
    if item.type is None:
        return REFERENCE if item.role is None and item.id is not None else "message"
    if item.type != REFERENCE and item.type not in _PREFIXES:
        names = ", ".join(f"'{name}'" for name in (*_PREFIXES, REFERENCE))
        raise invalid(
            f"Invalid value: '{item.type[:_SHOWN]}'. Supported values are: {names}.",
            f"{path}.type",
        )
    return item.type


def numbered(entries: Iterable[Entry], taken: Iterable[str]) -> list[InputItem]:
    """Completes items as they are kept: with an ID that no other has, and all that has a default.

    `taken` are the IDs of the conversation so far.
    """
    seen = set(taken)
    kept: list[InputItem] = []
    for entry in entries:
        item = entry.item
        kind = kind_of(item, entry.path)
        id = item.id
        if id is None or id in seen or not _ITEM_ID.fullmatch(id):
            id = new_id(_PREFIXES[kind])
        seen.add(id)
        content = item.content
        if kind == "message":
            content = _whole_parts(item)
        kept.append(
            msgspec.structs.replace(
                item, id=id, type=kind, status=item.status or "completed", content=content
            )
        )
    return kept


def _whole_parts(item: InputItem) -> list[InputPart]:
    said = item.role == "assistant"
    content = item.content
    if not isinstance(content, list):
        content = [InputPart(type="text", text=content or "")]
    parts: list[InputPart] = []
    for part in content:
        if part.type in _TEXTS:
            kind = "output_text" if said else "input_text"
            notes = part.annotations if isinstance(part.annotations, msgspec.Raw) else _NOTHING
            part = msgspec.structs.replace(
                part, type=kind, annotations=notes if said else msgspec.UNSET
            )
        parts.append(part)
    return parts


def to_dialogue(instructions: str, entries: Sequence[Entry]) -> Dialogue:
    """Translates a conversation.

    Raises:
        ProblemError: an item lacks what its kind needs, or can't be taken.
    """
    dialogue = Dialogue([], [])
    if instructions:
        message = message_pb2.Message(role=message_pb2.ROLE_SYSTEM)
        message.parts.add(text=instructions)
        dialogue.messages.append(message)
        dialogue.origins.append("instructions")
    calls: set[str] = set()
    turn: message_pb2.Message | None = None
    """The assistant's, which calls are part of."""
    thoughts = _Thoughts()
    for entry in entries:
        item, path = entry.item, entry.path
        kind = kind_of(item, path)
        if kind == "reasoning":
            thoughts.add(item, path)
        elif kind == "function_call":
            if turn is None:
                turn = _put(dialogue, _assistant(), path)
            calls.add(_add_call(turn, item, path))
            thoughts.give_to(turn)
        elif kind == "function_call_output":
            thoughts.settle(dialogue, turn)
            _put(dialogue, _result(item, path, calls), path)
            turn = None
        elif kind == "message" and item.role == "assistant":
            turn = _put(dialogue, _message(item, path), path)
            thoughts.give_to(turn)
        elif kind == "message":
            thoughts.settle(dialogue, turn)
            _put(dialogue, _message(item, path), path)
            turn = None
    if not dialogue.messages:
        raise invalid("Invalid 'input': there is nothing to answer in it.", "input")
    return dialogue


class _Thoughts:
    """What the assistant thought, until it is known which turn it belongs to."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._path = ""

    def add(self, item: InputItem, path: str) -> None:
        """Takes what a reasoning says."""
        text = _reasoning(item, path)
        if text:
            self._texts.append(text)
            self._path = path

    def give_to(self, turn: message_pb2.Message) -> None:
        """Makes all that was thought a part of the turn."""
        if self._texts:
            before = [turn.reasoning] if turn.reasoning else []
            turn.reasoning = "\n".join([*before, *self._texts])
            self._texts.clear()

    def settle(self, dialogue: Dialogue, turn: message_pb2.Message | None) -> None:
        """Ends the assistant's turn. One that was cut while it thought has no message."""
        if self._texts:
            if turn is None:
                turn = _put(dialogue, _assistant(), self._path)
                turn.parts.add(text="")
            self.give_to(turn)


def _reasoning(item: InputItem, path: str) -> str:
    content = item.content
    if content is None or isinstance(content, str):
        return content or ""
    texts: list[str] = []
    for number, part in enumerate(content):
        where = f"{path}.content[{number}]"
        if part.type != _REASONING_TEXT:
            raise _unknown_part(part, where, f"'{_REASONING_TEXT}'")
        if part.text is None:
            raise missing(f"{where}.text")
        texts.append(part.text)
    return "\n".join(texts)


def _assistant() -> message_pb2.Message:
    return message_pb2.Message(role=message_pb2.ROLE_ASSISTANT)


def _put(dialogue: Dialogue, message: message_pb2.Message, path: str) -> message_pb2.Message:
    dialogue.messages.append(message)
    dialogue.origins.append(path)
    return message


def _message(item: InputItem, path: str) -> message_pb2.Message:
    if item.role is None:
        raise missing(f"{path}.role")
    if item.content is None:
        raise missing(f"{path}.content")
    parts = _parts(item.content, f"{path}.content")
    return message_pb2.Message(role=_ROLES[item.role], parts=parts)


def _add_call(turn: message_pb2.Message, item: InputItem, path: str) -> str:
    if not item.call_id:
        raise missing(f"{path}.call_id")
    if item.name is None:
        raise missing(f"{path}.name")
    if item.arguments is None:
        raise missing(f"{path}.arguments")
    # What a model once wrote need not be JSON; but what is, must not be nested without end.
    if item.arguments.count("[") + item.arguments.count("{") > DEEPEST_JSON:
        load_json(item.arguments.encode(), f"{path}.arguments")
    turn.tool_calls.add(id=item.call_id, name=item.name, arguments_json=item.arguments)
    return item.call_id


def _result(item: InputItem, path: str, calls: set[str]) -> message_pb2.Message:
    if not item.call_id:
        raise missing(f"{path}.call_id")
    if item.output is None:
        raise missing(f"{path}.output")
    if item.call_id not in calls:
        raise invalid(
            f"No tool call found for function call output with call_id {item.call_id[:_SHOWN]}.",
            f"{path}.call_id",
        )
    return message_pb2.Message(
        role=message_pb2.ROLE_TOOL,
        tool_call_id=item.call_id,
        parts=_parts(item.output, f"{path}.output"),
    )


def _parts(content: str | list[InputPart], path: str) -> list[message_pb2.Part]:
    if isinstance(content, str):
        return [message_pb2.Part(text=content)]
    return to_parts(content, path, _part)


def _part(part: InputPart, path: str) -> str | message_pb2.Image:
    return _image(part, path) if part.type == "input_image" else _text(part, path)


def _text(part: InputPart, path: str) -> str:
    if part.type == "refusal":
        if part.refusal is None:
            raise missing(f"{path}.refusal")
        return part.refusal
    if part.type not in _TEXTS:
        names = "'input_text', 'output_text', 'refusal' and 'input_image'"
        raise _unknown_part(part, path, names)
    if part.text is None:
        raise missing(f"{path}.text")
    return part.text


def _image(part: InputPart, path: str) -> message_pb2.Image:
    if part.image_url is None:
        if part.file_id is not None:
            raise invalid(
                f"Unsupported parameter: '{path}.file_id' is not supported here: images are taken "
                "as data URLs.",
                f"{path}.file_id",
                "unsupported_parameter",
                "UNSUPPORTED_PARAMETER",
            )
        raise missing(f"{path}.image_url")
    return data_image(part.image_url, path)


def _unknown_part(part: InputPart, path: str, names: str) -> ProblemError:
    return invalid(
        f"Invalid value: '{part.type[:_SHOWN]}'. Supported values are: {names}.", f"{path}.type"
    )
