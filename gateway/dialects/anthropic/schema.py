"""Requests of Anthropic's Messages API, as it documents them.

An optional field that is null is absent. Unknown fields are ignored, and so are hints about
caching, tiers and effort: they change no answer.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.raw_json import AnyJson

INT32_MAX = 2**31 - 1

ModelId = Annotated[str, Meta(min_length=1, max_length=256)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=INT32_MAX)]
StopSequences = Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(max_length=16)]


class ImageSource(msgspec.Struct, kw_only=True):
    """Where an image comes from. Only `base64` is taken: nothing is fetched."""

    type: Literal["base64", "url", "file"]
    media_type: str | None = None
    data: str | None = None


class ResultBlock(msgspec.Struct, kw_only=True):
    """A piece of what a tool returned."""

    type: Literal["text", "image"]
    text: str | None = None
    source: ImageSource | None = None
    cache_control: AnyJson = msgspec.UNSET


class ContentBlock(msgspec.Struct, kw_only=True):
    """A piece of a message. What an assistant thought is told to the model; what of it only
    Anthropic could read (`redacted_thinking`) is left out, and signatures are not looked at.
    """

    type: Literal["text", "image", "tool_use", "tool_result", "thinking", "redacted_thinking"]
    text: str | None = None
    source: ImageSource | None = None
    id: str | None = None
    name: str | None = None
    input: AnyJson = msgspec.UNSET
    tool_use_id: str | None = None
    content: str | list[ResultBlock] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    cache_control: AnyJson = msgspec.UNSET


class MessageParam(msgspec.Struct, kw_only=True):
    """One turn of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[ContentBlock]


class SystemBlock(msgspec.Struct, kw_only=True):
    """A piece of the instructions."""

    type: Literal["text"]
    text: str
    cache_control: AnyJson = msgspec.UNSET


class ToolParam(msgspec.Struct, kw_only=True):
    """A tool that the model may call. Anthropic's own tools, which run there, are refused."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    type: str | None = None
    description: str | None = None
    input_schema: AnyJson = msgspec.UNSET
    strict: bool | None = None
    defer_loading: bool | None = None
    cache_control: AnyJson = msgspec.UNSET


class MessageToolChoice(msgspec.Struct, kw_only=True):
    """Which tools may or must be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, kw_only=True):
    """Whether the model thinks first, and whether its thoughts are shown.

    Where they are not asked for, a model may still think, and nothing of it is shown. `adaptive`
    leaves it to the model's template. `budget_tokens` is checked, and no more: what ends thoughts
    is `max_tokens`.
    """

    type: Literal["disabled", "adaptive", "enabled", "between_tools"]
    budget_tokens: Annotated[int, Meta(ge=1024, le=INT32_MAX)] | None = None
    display: Literal["summarized", "omitted"] | None = None

    @property
    def omitted(self) -> bool:
        """Whether these blocks are empty."""
        return self.display == "omitted"


class OutputFormat(msgspec.Struct, kw_only=True):
    """The form of the answer."""

    type: Literal["json_schema"]
    schema: AnyJson = msgspec.UNSET


class OutputConfig(msgspec.Struct, kw_only=True):
    """What the answer is like."""

    format: OutputFormat | None = None
    effort: str | None = None


class MessageMetadata(msgspec.Struct, kw_only=True):
    """What is told of the request."""

    user_id: Annotated[str, Meta(max_length=512)] | None = None


class CountTokensRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/messages/count_tokens`."""

    model: ModelId
    messages: Annotated[list[MessageParam], Meta(min_length=1, max_length=10_000)]
    system: str | list[SystemBlock] | None = None
    tools: Annotated[list[ToolParam], Meta(max_length=128)] | None = None
    tool_choice: MessageToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: AnyJson = msgspec.UNSET


class MessagesRequest(CountTokensRequest, kw_only=True):
    """Body of `POST /v1/messages`."""

    max_tokens: Count
    temperature: Share | None = None
    top_p: Share | None = None
    top_k: Count | None = None
    stop_sequences: StopSequences | None = None
    stream: bool | None = None
    metadata: MessageMetadata | None = None
    service_tier: str | None = None
    container: AnyJson = msgspec.UNSET
    mcp_servers: AnyJson = msgspec.UNSET

    @property
    def shown_thinking(self) -> Thinking | None:
        """How thoughts are shown; None: not at all."""
        asked = self.thinking
        return asked if asked is not None and asked.type in ("enabled", "adaptive") else None
