"""Requests of OpenAI's API, as it documents them, and the extensions of local servers.

An optional field that is null is absent. Unknown fields are ignored.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.raw_json import AnyJson

INT32_MAX = 2**31 - 1

_MOST_TOKENS = 2**20
"""More than any context holds; keeps bodies of nothing but numbers from costing seconds."""

Text64 = Annotated[str, Meta(max_length=64)]
Text512 = Annotated[str, Meta(max_length=512)]
TokenId = Annotated[int, Meta(ge=0, le=INT32_MAX)]
Count = Annotated[int, Meta(ge=0, le=INT32_MAX)]
PositiveCount = Annotated[int, Meta(ge=1, le=INT32_MAX)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Stop = str | Annotated[list[str], Meta(max_length=4)]
StopTokenIds = Annotated[list[TokenId], Meta(max_length=64)]
LogitBias = Annotated[dict[str, Bias], Meta(max_length=1024)]
TokenIds = Annotated[list[TokenId], Meta(min_length=1, max_length=_MOST_TOKENS)]
Labels = Annotated[dict[Text64, Text512], Meta(max_length=16)]


class ImageUrl(msgspec.Struct, kw_only=True):
    """An image inside a message."""

    url: str
    detail: str | None = None


class ContentPart(msgspec.Struct, kw_only=True):
    """One piece of a message."""

    type: Literal["text", "image_url", "refusal"]
    text: str | None = None
    image_url: ImageUrl | str | None = None
    refusal: str | None = None


class FunctionCall(msgspec.Struct, kw_only=True):
    """A call that the assistant made."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, kw_only=True):
    """A tool call that the assistant made."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(msgspec.Struct, kw_only=True):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    """What the assistant thought before it said this."""
    reasoning: str | None = None
    """Another name of `reasoning_content`."""


class FunctionDefinition(msgspec.Struct, kw_only=True):
    """A function that the model may call."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    parameters: AnyJson = msgspec.UNSET
    strict: bool | None = None


class ToolDefinition(msgspec.Struct, kw_only=True):
    """A tool that the model may call."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(msgspec.Struct, kw_only=True):
    """Names a function."""

    name: str


class ToolChoice(msgspec.Struct, kw_only=True):
    """Forces one tool."""

    type: Literal["function"]
    function: FunctionName


class JsonSchema(msgspec.Struct, kw_only=True):
    """A schema that the answer must fit."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    schema: AnyJson = msgspec.UNSET
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, kw_only=True):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(msgspec.Struct, kw_only=True):
    """What a stream tells besides."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class TemplateSwitches(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Variables of chat templates that callers may set: two names of one switch."""

    enable_thinking: bool | None = None
    thinking: bool | None = None


class SamplingFields(msgspec.Struct, kw_only=True):
    """What chat and completion have in common."""

    model: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    deployment_id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    n: Choices | None = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    seed: Seed | None = None
    user: Text512 | None = None
    top_k: Annotated[int, Meta(ge=-1, le=INT32_MAX)] | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    min_tokens: Count | None = None
    ignore_eos: bool | None = None
    stop_token_ids: StopTokenIds | None = None


class ChatCompletionRequest(SamplingFields, kw_only=True):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=10_000)]
    max_completion_tokens: PositiveCount | None = None
    max_tokens: PositiveCount | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolDefinition], Meta(max_length=128)] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionDefinition], Meta(max_length=128)] | None = None
    function_call: str | FunctionName | None = None
    modalities: list[str] | None = None
    audio: AnyJson = msgspec.UNSET
    web_search_options: AnyJson = msgspec.UNSET
    reasoning_effort: str | None = None
    """`none` switches thinking off; other efforts leave it as the model has it."""
    chat_template_kwargs: TemplateSwitches | None = None
    verbosity: str | None = None
    safety_identifier: Text512 | None = None
    metadata: Labels | None = None
    store: bool | None = None
    service_tier: str | None = None
    prediction: AnyJson = msgspec.UNSET
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None


class CompletionRequest(SamplingFields, kw_only=True):
    """Body of `POST /v1/completions`."""

    prompt: (
        str | Annotated[list[str | TokenId | TokenIds], Meta(min_length=1, max_length=_MOST_TOKENS)]
    )
    max_tokens: Count | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    best_of: Annotated[int, Meta(ge=0, le=20)] | None = None
    suffix: str | None = None


class PromptRequest(msgspec.Struct, kw_only=True):
    """A conversation to be rendered with the template of its model."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=10_000)]
    tools: Annotated[list[ToolDefinition], Meta(max_length=128)] | None = None
    add_generation_prompt: bool | None = None
    model: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
