"""Requests of Ollama's API, as it documents them.

An optional field that is null is absent. Unknown fields and options are ignored, as Ollama does;
so are hints about loading: `keep_alive`, and options such as `num_ctx` or `num_gpu`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.raw_json import AnyJson

INT32_MAX = 2**31 - 1

ModelId = Annotated[str, Meta(min_length=1, max_length=256)]
Share = Annotated[float, Meta(ge=0, le=1)]
Integer = Annotated[int, Meta(ge=-(2**31), le=INT32_MAX)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Images = Annotated[list[str], Meta(max_length=64)]


class OllamaOptions(msgspec.Struct, kw_only=True):
    """How tokens are chosen and when generation ends."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_k: Integer | None = None
    top_p: Share | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    num_predict: Integer | None = None
    stop: str | Annotated[list[str], Meta(max_length=16)] | None = None
    repeat_penalty: Annotated[float, Meta(ge=0, le=10)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1, le=INT32_MAX)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    mirostat: Annotated[int, Meta(ge=0, le=2)] | None = None
    mirostat_tau: Annotated[float, Meta(gt=0, le=100)] | None = None
    mirostat_eta: Annotated[float, Meta(gt=0, le=1)] | None = None


class OllamaFunctionCall(msgspec.Struct, kw_only=True):
    """What the assistant called."""

    name: str
    arguments: AnyJson = msgspec.UNSET


class OllamaToolCall(msgspec.Struct, kw_only=True):
    """A call that the assistant made."""

    function: OllamaFunctionCall
    id: Annotated[str, Meta(max_length=256)] | None = None


class OllamaMessage(msgspec.Struct, kw_only=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: Images | None = None
    tool_calls: Annotated[list[OllamaToolCall], Meta(max_length=128)] | None = None
    tool_name: str | None = None
    tool_call_id: Annotated[str, Meta(max_length=256)] | None = None


class OllamaFunction(msgspec.Struct, kw_only=True):
    """A function that the model may call."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: str | None = None
    parameters: AnyJson = msgspec.UNSET


class OllamaTool(msgspec.Struct, kw_only=True):
    """A tool that the model may call."""

    function: OllamaFunction
    type: Literal["function"] | None = None


class TextFields(msgspec.Struct, kw_only=True):
    """What chat and generate have in common."""

    model: ModelId
    stream: bool | None = None
    options: OllamaOptions | None = None
    format: AnyJson = msgspec.UNSET
    keep_alive: float | str | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class OllamaChatRequest(TextFields, kw_only=True):
    """Body of `POST /api/chat`. Without messages, it asks for the model to be loaded."""

    messages: Annotated[list[OllamaMessage], Meta(max_length=10_000)] | None = None
    tools: Annotated[list[OllamaTool], Meta(max_length=128)] | None = None


class OllamaGenerateRequest(TextFields, kw_only=True):
    """Body of `POST /api/generate`. Without a prompt, it asks for the model to be loaded."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    raw: bool | None = None
    images: Images | None = None
    template: str | None = None
    context: AnyJson = msgspec.UNSET


class OllamaEmbedRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /api/embed`."""

    model: ModelId
    input: str | Annotated[list[str], Meta(max_length=2048)]
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65536)] | None = None
    keep_alive: float | str | None = None


class OllamaEmbeddingsRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /api/embeddings`, which came before `POST /api/embed`."""

    model: ModelId
    prompt: str | None = None
    keep_alive: float | str | None = None


class OllamaShowRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /api/show`; `name` is what `model` was called once."""

    model: ModelId | None = None
    name: ModelId | None = None
