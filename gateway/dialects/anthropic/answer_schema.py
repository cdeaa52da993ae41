"""Answers of Anthropic's Messages API, as its SDKs read them."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]


class MessageOutputTokens(msgspec.Struct):
    """What tokens of the output were."""

    thinking_tokens: int


class MessageUsage(msgspec.Struct):
    """Token counts. What a cache held is not among `input_tokens`."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: MessageOutputTokens | UnsetType = UNSET


class ThinkingBlock(msgspec.Struct, tag_field="type", tag="thinking"):
    """What the model thought before it answered."""

    thinking: str
    signature: str


class TextBlock(msgspec.Struct, tag_field="type", tag="text"):
    """Text that the model wrote."""

    text: str


class ToolUseBlock(msgspec.Struct, tag_field="type", tag="tool_use"):
    """A call that the model wants made."""

    id: str
    name: str
    input: msgspec.Raw


class MessageAnswer(msgspec.Struct):
    """Body of the answer of `POST /v1/messages`."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ThinkingBlock | TextBlock | ToolUseBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class TokenCount(msgspec.Struct):
    """Body of the answer of `POST /v1/messages/count_tokens`."""

    input_tokens: int


class MessageErrorDetails(msgspec.Struct):
    """What went wrong."""

    type: str
    message: str


class MessageError(msgspec.Struct):
    """Body of an error."""

    type: Literal["error"]
    error: MessageErrorDetails
    request_id: str
