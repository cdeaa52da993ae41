"""Answers of Ollama's API, as its clients read them. Durations are in nanoseconds."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

DoneReason = Literal["stop", "length", "load", "unload"]


class OllamaCalledFunction(msgspec.Struct):
    """What the model calls. Calls of one answer are counted from 0."""

    index: int
    name: str
    arguments: msgspec.Raw


class OllamaAnswerCall(msgspec.Struct):
    """A call that the model wants made."""

    id: str
    function: OllamaCalledFunction


class OllamaAnswerMessage(msgspec.Struct):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[OllamaAnswerCall] | UnsetType = UNSET


class OllamaTokenScore(msgspec.Struct):
    """A token that might have been, and its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class OllamaLogprob(OllamaTokenScore):
    """A token of the answer and its log-probability."""

    top_logprobs: list[OllamaTokenScore]


class OllamaEnd(msgspec.Struct, kw_only=True):
    """What is told of an answer, the last half of it at its end."""

    model: str
    created_at: str
    done: bool
    done_reason: DoneReason | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    logprobs: list[OllamaLogprob] | UnsetType = UNSET


class OllamaChatAnswer(OllamaEnd, kw_only=True):
    """Body of the answer of `POST /api/chat`, or one line of its stream."""

    message: OllamaAnswerMessage


class OllamaGenerateAnswer(OllamaEnd, kw_only=True):
    """Body of the answer of `POST /api/generate`, or one line of its stream."""

    response: str
    thinking: str | UnsetType = UNSET


class OllamaEmbedAnswer(msgspec.Struct):
    """Body of the answer of `POST /api/embed`."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OllamaEmbeddingsAnswer(msgspec.Struct):
    """Body of the answer of `POST /api/embeddings`."""

    embedding: list[float]


class OllamaModelDetails(msgspec.Struct):
    """What a model is made of."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(msgspec.Struct):
    """A model that answers. Nobody counts the bytes of its weights: `size` is 0."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaModelDetails


class OllamaTags(msgspec.Struct):
    """Body of the answer of `GET /api/tags`."""

    models: list[OllamaModel]


class OllamaRunningModel(msgspec.Struct):
    """A model that is loaded."""

    name: str
    model: str
    size: int
    digest: str
    details: OllamaModelDetails
    expires_at: str
    size_vram: int
    context_length: int


class OllamaProcesses(msgspec.Struct):
    """Body of the answer of `GET /api/ps`."""

    models: list[OllamaRunningModel]


class OllamaShown(msgspec.Struct):
    """Body of the answer of `POST /api/show`."""

    modelfile: str
    parameters: str
    template: str
    details: OllamaModelDetails
    model_info: dict[str, str | int]
    capabilities: list[str]
    modified_at: str


class OllamaVersion(msgspec.Struct):
    """Body of the answer of `GET /api/version`: the platform's own version."""

    version: str


class OllamaError(msgspec.Struct):
    """Body of an error."""

    error: str
