"""Models and their settings, as the dialect documents them.

An optional field that is null is absent. Unknown fields are ignored, except in settings.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Kind = Literal["chat", "completion", "embedding", "image", "rerank", "tensor"]
ModelWord = Literal["deploying", "ready", "failed", "stopped"]
Whole = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
StopText = Annotated[str, Meta(min_length=1)]


class ModelItem(msgspec.Struct, kw_only=True):
    """A model."""

    id: str
    name: str
    type: Kind | None
    status: ModelWord | None
    version: str
    context_length: int | None
    dimensions: int | None
    loaded: bool
    created_at: str | None
    base_model: str | None


class ModelDeploy(msgspec.Struct, kw_only=True):
    """Body of `POST /api/v1/ai/models/deploy`."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    source: Annotated[str, Meta(min_length=1, max_length=4096)]
    type: Kind
    context_length: Whole | None = None
    dimensions: Whole | None = None
    default_temperature: Temperature | None = None
    quantization: Literal["auto", "float32", "bfloat16", "float16", "int8", "fp8"] | None = None
    replicas: Whole | None = None
    base_model: Annotated[str, Meta(max_length=256)] | None = None
    wait: bool | None = None


class ModelRemoved(msgspec.Struct):
    """Body of the answer of `DELETE /api/v1/ai/models/{id}`."""

    id: str
    status: Literal["removed"]


class ConfigChange(msgspec.Struct, kw_only=True):
    """Settings to change; those that are absent stay as they are."""

    context_length: Whole | None = None
    default_temperature: Temperature | None = None
    default_top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    default_max_tokens: Whole | None = None
    max_batch_size: Annotated[int, Meta(ge=1, le=4096)] | None = None
    system_prompt: Annotated[str, Meta(max_length=32_768)] | None = None
    stop: Annotated[list[StopText], Meta(max_length=16)] | None = None


class ConfigUpdate(msgspec.Struct, kw_only=True):
    """Body of `PUT /api/v1/ai/models/{id}/config`. The settings may stand there bare, too."""

    config: ConfigChange
    model_id: str | None = None
    version: int | None = None
    """Where it is given, only settings of this version are changed, as by `If-Match`."""


class ConfigValues(msgspec.Struct, kw_only=True):
    """Settings of a model."""

    context_length: int | None
    default_temperature: float | None
    default_top_p: float | None
    default_max_tokens: int | None
    max_batch_size: int | None
    system_prompt: str
    stop: list[str]


class ModelConfig(msgspec.Struct, kw_only=True):
    """Body of the answers of `/api/v1/ai/models/{id}/config`."""

    model_id: str
    version: int
    config: ConfigValues
