"""One inference on any model, as the dialect documents it.

An optional field that is null is absent. Unknown fields are ignored, except in parameters.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

ModelId = Annotated[str, Meta(min_length=1, max_length=263)]
Values = dict[str, Any]
"""Parameters of text models: those that the inference service has, by name."""


class InferenceRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /api/v1/ai/inference`, before it is known what the model takes."""

    model: ModelId
    input: msgspec.Raw
    parameters: Values | None = None


class InferenceBody(msgspec.Struct, kw_only=True):
    """Body of `POST /api/v1/ai/inference`.

    `input` is a text for chat, completion, embedding and image models, and for tensor models
    nested arrays of numbers, or an object with one for each input.
    """

    model: ModelId
    input: str | dict[str, Any] | list[Any]
    parameters: Values | None = None


class TextInference(msgspec.Struct, kw_only=True):
    """What is asked of a chat or completion model."""

    input: str
    parameters: Values | None = None


class EmbeddingParameters(msgspec.Struct, kw_only=True):
    """Parameters of embedding models."""

    dimensions: Annotated[int, Meta(ge=1, le=65536)] | None = None
    normalize: bool | None = None
    prompt_name: Annotated[str, Meta(max_length=128)] | None = None


class EmbeddingInference(msgspec.Struct, kw_only=True):
    """What is asked of an embedding model."""

    input: Annotated[str, Meta(min_length=1)]
    parameters: EmbeddingParameters | None = None


_Side = Annotated[int, Meta(ge=8, le=16384, multiple_of=8)]
_Name = Annotated[str, Meta(max_length=128)]


class ImageParameters(msgspec.Struct, kw_only=True):
    """Parameters of image models."""

    negative_prompt: Annotated[str, Meta(max_length=65536)] | None = None
    width: _Side | None = None
    height: _Side | None = None
    steps: Annotated[int, Meta(ge=1, le=1000)] | None = None
    cfg_scale: Annotated[float, Meta(ge=0, le=100)] | None = None
    sampler: _Name | None = None
    scheduler: _Name | None = None
    seed: Annotated[int, Meta(ge=-1, le=2**53 - 1)] | None = None
    clip_skip: Annotated[int, Meta(ge=1, le=12)] | None = None


class ImageInference(msgspec.Struct, kw_only=True):
    """What is asked of an image model."""

    input: Annotated[str, Meta(max_length=65536)]
    parameters: ImageParameters | None = None


class InferenceUsage(msgspec.Struct):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class InferenceAnswer(msgspec.Struct, kw_only=True):
    """Body of the answer of `POST /api/v1/ai/inference`.

    `output` is a text of chat and completion models, a vector of embedding models, a PNG in base64
    of image models, and of tensor models an array, or an object with one for each output.
    """

    model: str
    output: str | list[Any] | dict[str, Any] | float | bool | None
    usage: InferenceUsage | None
    latency_ms: float


class RawAnswer(msgspec.Struct, kw_only=True):
    """The same, with an output that is JSON already."""

    model: str
    output: msgspec.Raw
    usage: InferenceUsage | None
    latency_ms: float
