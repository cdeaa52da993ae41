"""Reads conversations from JSON values."""

from collections.abc import Mapping
from typing import Any, Final, cast

from services.training.examples import places
from services.training.examples.formats import Message, Role
from services.training.examples.functions import a_call, called
from services.training.examples.shapes import (
    Object,
    a_list,
    a_string,
    an_object,
    missing,
    only_keys,
    optional,
    required,
    spelled,
)
from services.training.examples.strict_json import Fault

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "system": ("role", "content", "name"),
    "developer": ("role", "content", "name"),
    "user": ("role", "content", "name"),
    "assistant": (
        *("role", "content", "name", "refusal", "weight", "tool_calls", "function_call"),
        # What clients write into an assistant's message, and say nothing with.
        *("audio", "annotations"),
    ),
    "tool": ("role", "content", "name", "tool_call_id"),
    "function": ("role", "content", "name"),
}
_ROLES: Final = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_OTHER_PARTS: Final[Mapping[str, str]] = {
    "image_url": "images",
    "input_audio": "sounds",
    "file": "files",
}


def conversation(value: Any, *path: str | int, weighted: bool) -> tuple[Message, ...]:
    """Reads a list of messages; `weighted` ones of the assistant may have a weight.

    Raises:
        Fault: it is none.
    """
    items = a_list(value, *path)
    if not items:
        raise Fault(f"{spelled(path)} is empty", places.value(*path))
    messages: list[Message] = []
    call_id = ""
    for index, item in enumerate(items):
        read = _message(item, (*path, index), call_id, weighted=weighted)
        if read.role is Role.ASSISTANT and read.tool_calls:
            call_id = read.tool_calls[-1].id
        messages.append(read)
    return tuple(messages)


def answer(value: Any, *path: str | int) -> tuple[Message, ...]:
    """Reads a list with one message of the assistant.

    Raises:
        Fault: it is none.
    """
    messages = conversation(value, *path, weighted=False)
    if len(messages) != 1:
        message = f"{spelled(path)} holds {len(messages)} messages; it must hold one"
        raise Fault(message, places.value(*path, 1))
    if messages[0].role is not Role.ASSISTANT:
        message = f'{spelled((*path, 0, "role"))} must be "assistant"'
        raise Fault(message, places.value(*path, 0, "role"))
    return messages


def _message(value: Any, path: places.Path, call_id: str, *, weighted: bool) -> Message:
    message = an_object(value, *path)
    said = message.get("role")
    if said is None:
        raise missing("role", path)
    role = _ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        roles = ", ".join(_ROLES)
        text = f"{spelled((*path, 'role'))} must be one of {roles}"
        raise Fault(text, places.value(*path, "role"))
    only_keys(message, path, _KEYS[said], f"a message of the role {said}")
    content = _content(message.get("content"), (*path, "content"))
    name = optional(message, "name", path)
    if role is Role.ASSISTANT:
        return _assistant(message, path, content, name, weighted=weighted)
    if content is None:
        raise missing("content", path)
    if said == "tool":
        call_id = required(message, "tool_call_id", path)
    elif said == "function":
        required(message, "name", path)
        call_id = call_id or f"call_{path[-1]}"
    else:
        call_id = ""
    return Message(role, content, name, tool_call_id=call_id)


def _assistant(
    message: Object, path: places.Path, content: str | None, name: str, *, weighted: bool
) -> Message:
    calls = [
        a_call(item, (*path, "tool_calls", index))
        for index, item in enumerate(a_list(message.get("tool_calls") or [], *path, "tool_calls"))
    ]
    old = message.get("function_call")
    if old is not None:
        where = (*path, "function_call")
        calls.append(called(old, where, f"call_{path[-1]}"))
    for key in ("audio", "annotations"):
        if message.get(key):
            text = f"{spelled((*path, key))} can't be trained on: leave it out"
            raise Fault(text, places.value(*path, key))
    content = content or optional(message, "refusal", path)
    if not content and not calls:
        if message.get("content") is None:
            raise missing("content", path)
        text = f"{spelled((*path, 'content'))} is empty: there is nothing to learn"
        raise Fault(text, places.value(*path, "content"))
    return Message(
        Role.ASSISTANT,
        content,
        name,
        tool_calls=tuple(calls),
        weight=_weight(message, path, weighted=weighted),
    )


def _weight(message: Object, path: places.Path, *, weighted: bool) -> int:
    weight = message.get("weight")
    if weight is None:
        return 1
    where = (*path, "weight")
    if not weighted:
        raise Fault(f"{spelled(where)}: only chat examples have weights", places.key(*where))
    if isinstance(weight, bool) or weight not in (0, 1):
        raise Fault(f"{spelled(where)} must be 0 or 1", places.value(*where))
    return int(weight)


def _content(value: Any, path: places.Path) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        text = f"{spelled(path)} must be a string, or a list of text parts"
        raise Fault(text, places.value(*path))
    parts = cast("list[Any]", value)
    if not parts:
        raise Fault(f"{spelled(path)} is empty", places.value(*path))
    # One a line, as when a chat is served.
    return "\n".join(_part(part, (*path, index)) for index, part in enumerate(parts))


def _part(value: Any, path: places.Path) -> str:
    part = an_object(value, *path)
    kind = part.get("type")
    if kind in ("text", "refusal"):
        only_keys(part, path, ("type", kind), f"a {kind} part")
        return a_string(part.get(kind), *path, kind)
    where = places.value(*path, "type")
    if isinstance(kind, str) and kind in _OTHER_PARTS:
        text = f"{spelled(path)}: {_OTHER_PARTS[kind]} can't be trained on; only text can"
        raise Fault(text, where)
    raise Fault(f'{spelled((*path, "type"))} must be "text"', where)
