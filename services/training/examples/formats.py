"""The examples that models are trained on, as the trainer takes them.

What files may write in several ways is written in one way here, the way in which chats are served:
roles are `system`, `user`, `assistant` and `tool`, contents are text, calls are tool calls.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast


class Format(StrEnum):
    """What a line of a file holds."""

    CHAT = "chat"
    """A conversation: `messages`."""
    COMPLETION = "completion"
    """A text and how it goes on: `prompt` and `completion`."""
    PREFERENCE = "preference"
    """A conversation and two answers: `input`, `preferred_output`, `non_preferred_output`."""


class Method(StrEnum):
    """What is learnt from examples."""

    SUPERVISED = "supervised"
    DPO = "dpo"


FORMATS: Mapping[Method, frozenset[Format]] = {
    Method.SUPERVISED: frozenset({Format.CHAT, Format.COMPLETION}),
    Method.DPO: frozenset({Format.PREFERENCE}),
}
"""Which formats a method can learn from."""


class Role(StrEnum):
    """Who says something."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant makes."""

    id: str
    name: str
    arguments: str
    """JSON, as the model is to write it."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str = ""
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    weight: int = 1
    """0: the assistant's words are read and not learnt."""

    def for_template(self) -> dict[str, Any]:
        """The turn as chat templates take it, just as it is when a chat is served."""
        turn: dict[str, Any] = {"role": self.role.value, "content": self.content}
        if self.name:
            turn["name"] = self.name
        if self.tool_call_id:
            turn["tool_call_id"] = self.tool_call_id
        if self.tool_calls:
            turn["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": _arguments(call.arguments)},
                }
                for call in self.tool_calls
            ]
        return turn


Tools = tuple[Mapping[str, Any], ...]
"""Functions that may be called, as chat templates take them: `{"type": "function", "function":
{"name", "description", "parameters"}}`."""


@dataclass(frozen=True, slots=True)
class ChatExample:
    """A conversation; the assistant's turns with weight 1 are to be learnt."""

    messages: tuple[Message, ...]
    tools: Tools = ()


@dataclass(frozen=True, slots=True)
class CompletionExample:
    """A text and how it goes on."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class PreferenceExample:
    """A conversation, how it should go on, and how it should not."""

    messages: tuple[Message, ...]
    preferred: tuple[Message, ...]
    """One turn of the assistant."""
    non_preferred: tuple[Message, ...]
    """One turn of the assistant."""
    tools: Tools = ()


Example = ChatExample | CompletionExample | PreferenceExample


def _arguments(text: str) -> Any:
    """Arguments as an object; as they are written where that is no JSON object."""
    try:
        value: object = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
    return cast("dict[str, Any]", value) if isinstance(value, dict) else text
