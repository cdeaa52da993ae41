"""Requests of OpenAI's Responses API, as it documents them.

An optional field that is null is absent. Unknown fields are ignored.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.dialects.openai.schema import (
    INT32_MAX,
    Labels,
    PositiveCount,
    Share,
    StreamOptions,
    Temperature,
    Text64,
    Text512,
)
from gateway.dialects.openai.vector_store_schema import RankingOptions, SearchFilter
from gateway.raw_json import AnyJson

Name = Annotated[str, Meta(min_length=1, max_length=64)]
StoreId = Annotated[str, Meta(min_length=1, max_length=256)]
MOST_ITEMS = 10_000


class InputPart(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One piece of a message, or of what a function returned."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    annotations: AnyJson = msgspec.UNSET
    logprobs: AnyJson = msgspec.UNSET


class SummaryPart(msgspec.Struct, kw_only=True):
    """One piece of the summary of a reasoning."""

    type: Literal["summary_text"] = "summary_text"
    text: str


class InputItem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One entry of a conversation: what `type` says, a message by default.

    The text of a reasoning that comes back goes to the model, with what the assistant says after
    it. Summaries, encrypted reasoning and searches are taken, and not read: no model here takes
    them.
    """

    id: str | None = None
    type: str | None = None
    status: str | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[InputPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[InputPart] | None = None
    queries: list[str] | None = None
    results: AnyJson = msgspec.UNSET
    summary: list[SummaryPart] | None = None


class ResponseTool(msgspec.Struct, kw_only=True):
    """A tool that the model may use: a function, or `file_search`."""

    type: str
    name: Name | None = None
    description: str | None = None
    parameters: AnyJson = msgspec.UNSET
    strict: bool | None = None
    vector_store_ids: Annotated[list[StoreId], Meta(min_length=1, max_length=8)] | None = None
    max_num_results: Annotated[int, Meta(ge=1, le=50)] | None = None
    filters: SearchFilter | None = None
    ranking_options: RankingOptions | None = None


class NamedTool(msgspec.Struct, kw_only=True):
    """Names one of the tools."""

    type: str
    name: str | None = None


class ResponseToolChoice(NamedTool, kw_only=True):
    """Forces one tool, or leaves a choice among some."""

    mode: Literal["auto", "required"] | None = None
    tools: Annotated[list[NamedTool], Meta(min_length=1, max_length=128)] | None = None


class TextFormat(msgspec.Struct, kw_only=True):
    """The form of the text."""

    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    description: str | None = None
    schema: AnyJson = msgspec.UNSET
    strict: bool | None = None


class TextConfig(msgspec.Struct, kw_only=True):
    """What the text shall be like."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(msgspec.Struct, kw_only=True):
    """How much the model shall reason."""

    effort: Text64 | None = None
    summary: Text64 | None = None
    generate_summary: Text64 | None = None


class ResponseCreate(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/responses`. Nothing is stored unless `store` is true."""

    model: Annotated[str, Meta(min_length=1, max_length=256)]
    input: str | Annotated[list[InputItem], Meta(min_length=1, max_length=MOST_ITEMS)]
    instructions: str | None = None
    previous_response_id: Text64 | None = None
    max_output_tokens: Annotated[int, Meta(ge=16, le=INT32_MAX)] | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    tools: Annotated[list[ResponseTool], Meta(max_length=128)] | None = None
    tool_choice: str | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: PositiveCount | None = None
    text: TextConfig | None = None
    include: Annotated[list[str], Meta(max_length=32)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    store: bool | None = None
    metadata: Labels | None = None
    reasoning: Reasoning | None = None
    truncation: Literal["auto", "disabled"] | None = None
    background: bool | None = None
    conversation: AnyJson = msgspec.UNSET
    prompt: AnyJson = msgspec.UNSET
    context_management: AnyJson = msgspec.UNSET
    moderation: AnyJson = msgspec.UNSET
    user: Text512 | None = None
    safety_identifier: Text512 | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None


class ResponseQuery(msgspec.Struct, kw_only=True):
    """How a stored response is wanted. `include[]` may name what is shown anyway."""

    stream: bool | None = None


class InputItemsQuery(msgspec.Struct, kw_only=True):
    """Which page of the items is wanted. `include[]` may name what is shown anyway."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
