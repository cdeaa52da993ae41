"""Answers of OpenAI's Responses API, as its SDKs read them."""

from typing import Any, Literal

import msgspec

from gateway.dialects.openai.answer_schema import TokenLogprob
from gateway.dialects.openai.vector_store_schema import RankingOptions, Scalar, SearchFilter

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(msgspec.Struct, kw_only=True):
    """Text of a message."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[None] = []
    logprobs: list[TokenLogprob] = []


class OutputMessage(msgspec.Struct, kw_only=True, tag_field="type", tag="message"):
    """What the assistant says."""

    id: str
    status: ItemStatus
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class ReasoningText(msgspec.Struct, kw_only=True):
    """Text of a thought."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str


class ReasoningItem(msgspec.Struct, kw_only=True, tag_field="type", tag="reasoning"):
    """What the assistant thinks before it says something. It is told whole, never summarised."""

    id: str
    summary: list[None] = []
    content: list[ReasoningText]
    status: ItemStatus


class FunctionCallItem(msgspec.Struct, kw_only=True, tag_field="type", tag="function_call"):
    """A call that the assistant wants made."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


class FileSearchHit(msgspec.Struct):
    """A passage that a search found."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, Scalar]
    text: str


class FileSearchCall(msgspec.Struct, kw_only=True, tag_field="type", tag="file_search_call"):
    """A search of vector stores that was made; `results` are told if `include` asks for them."""

    id: str
    status: Literal["in_progress", "searching", "completed"]
    queries: list[str]
    results: list[FileSearchHit] | None = None


OutputItem = ReasoningItem | OutputMessage | FunctionCallItem | FileSearchCall


class IncompleteDetails(msgspec.Struct):
    """Why a response is not complete."""

    reason: Literal["max_output_tokens", "content_filter"]


class ResponseFailure(msgspec.Struct):
    """Why a response failed."""

    code: str
    message: str


class ReasoningEcho(msgspec.Struct):
    """What was asked of reasoning."""

    effort: str | None = None
    summary: None = None


class FunctionEcho(msgspec.Struct, kw_only=True, tag_field="type", tag="function"):
    """A function that was given."""

    name: str
    description: str | None
    parameters: Any
    """A JSON Schema."""
    strict: bool


class FileSearchEcho(msgspec.Struct, kw_only=True, tag_field="type", tag="file_search"):
    """A search that was allowed."""

    vector_store_ids: list[str]
    max_num_results: int
    filters: SearchFilter | None
    ranking_options: RankingOptions | None


class ToolChoiceEcho(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The choice of tools that was asked for."""

    type: str
    name: str | msgspec.UnsetType = msgspec.UNSET
    mode: str | msgspec.UnsetType = msgspec.UNSET
    tools: list["ToolChoiceEcho"] | msgspec.UnsetType = msgspec.UNSET


class TextFormatEcho(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The form that was asked for."""

    type: str
    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    schema: Any = msgspec.UNSET
    """A JSON Schema."""
    strict: bool | msgspec.UnsetType = msgspec.UNSET


class TextEcho(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What was asked of the text."""

    format: TextFormatEcho
    verbosity: str | msgspec.UnsetType = msgspec.UNSET


class InputTokens(msgspec.Struct):
    """Where input tokens came from."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokens(msgspec.Struct):
    """What output tokens were spent on."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens
    total_tokens: int


class Response(msgspec.Struct, kw_only=True):
    """A response: what was asked for, and what came of it."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    completed_at: int | None
    error: ResponseFailure | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: ReasoningEcho
    store: bool
    temperature: float
    text: TextEcho
    tool_choice: str | ToolChoiceEcho
    tools: list[FunctionEcho | FileSearchEcho]
    top_p: float
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None
    user: str | None
    metadata: dict[str, str]
    background: Literal[False] = False
    max_tool_calls: int | None
    prompt_cache_key: str | None
    safety_identifier: str | None
    service_tier: Literal["default"] = "default"
    top_logprobs: int


class ResponseDeleted(msgspec.Struct):
    """Body of the answer of `DELETE /v1/responses/{response_id}`."""

    id: str
    object: Literal["response"]
    deleted: bool


class ResponseItemList(msgspec.Struct, kw_only=True):
    """Body of the answer of `GET /v1/responses/{response_id}/input_items`."""

    object: Literal["list"] = "list"
    data: list[Any]
    """Items, as they were sent or answered."""
    first_id: str | None
    last_id: str | None
    has_more: bool
