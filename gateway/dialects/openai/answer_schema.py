"""Answers of OpenAI's API, as its SDKs read them."""

from typing import Literal

import msgspec

Finish = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class PromptDetails(msgspec.Struct):
    """Where prompt tokens came from."""

    cached_tokens: int = 0
    audio_tokens: int = 0


class CompletionDetails(msgspec.Struct):
    """What completion tokens were spent on."""

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class TopLogprob(msgspec.Struct):
    """A token that might have been."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct):
    """A token of the answer and its log-probability."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct):
    """Log-probabilities of a message."""

    content: list[TokenLogprob]
    refusal: None = None


class Function(msgspec.Struct):
    """A function call."""

    name: str
    arguments: str


class MessageToolCall(msgspec.Struct):
    """A tool call of a message."""

    id: str
    type: Literal["function"]
    function: Function


class AnswerMessage(msgspec.Struct):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    refusal: None = None
    annotations: list[None] = []
    tool_calls: list[MessageToolCall] | msgspec.UnsetType = msgspec.UNSET
    function_call: Function | msgspec.UnsetType = msgspec.UNSET


class ChatChoice(msgspec.Struct):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatCompletion(msgspec.Struct):
    """Body of the answer of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    service_tier: str
    system_fingerprint: str


class CompletionLogprobs(msgspec.Struct):
    """Log-probabilities of a text; the first is null when the prompt was echoed."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct):
    """One text."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None
    finish_reason: Finish


class Completion(msgspec.Struct):
    """Body of the answer of `POST /v1/completions`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: Usage


class Prompt(msgspec.Struct):
    """A conversation as a prompt."""

    prompt: str


class ModelObject(msgspec.Struct, omit_defaults=True):
    """A model. Keys after `owned_by` are ours."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    type: str = ""
    status: str = ""
    context_length: int = 0
    dimensions: int = 0


class ModelList(msgspec.Struct):
    """Body of the answer of `GET /v1/models`."""

    object: Literal["list"]
    data: list[ModelObject]


class ModelDeleted(msgspec.Struct):
    """Body of the answer of `DELETE /v1/models/{model}`."""

    id: str
    object: Literal["model"]
    deleted: bool


class ErrorDetail(msgspec.Struct):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(msgspec.Struct):
    """Body of every error."""

    error: ErrorDetail
