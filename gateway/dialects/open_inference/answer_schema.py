"""Answers of the Open Inference Protocol."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class OpenInferenceError(msgspec.Struct):
    """Body of every error."""

    error: str


class OpenInferenceLive(msgspec.Struct):
    """Body of the answer of `GET /v2/health/live`."""

    live: bool


class OpenInferenceReady(msgspec.Struct):
    """Body of the answer of `GET /v2/health/ready`."""

    ready: bool


class OpenInferenceServer(msgspec.Struct):
    """Body of the answer of `GET /v2`."""

    name: str
    version: str
    extensions: list[str]


class OpenInferenceModelReady(msgspec.Struct):
    """Body of the answer of `GET /v2/models/{model}/ready`."""

    name: str
    ready: bool


class OpenInferenceTensor(msgspec.Struct):
    """What an input has to be, or what an output is."""

    name: str
    datatype: str
    shape: list[int]
    """Sizes, -1 for any; [-1] where any number of dimensions is taken."""


class OpenInferenceModel(msgspec.Struct):
    """Body of the answer of `GET /v2/models/{model}`."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[OpenInferenceTensor]
    outputs: list[OpenInferenceTensor]


class OpenInferenceAnswered(msgspec.Struct, omit_defaults=True):
    """A tensor that the model gave."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] | UnsetType = UNSET
    """`binary_data_size`, where its bytes stand behind the JSON."""
    data: list[Any] | UnsetType = UNSET
    """Its elements in a row; what is no finite number is null."""


class OpenInferenceAnswer(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Body of the answer of `POST /v2/models/{model}/infer`."""

    model_name: str
    model_version: str | UnsetType = UNSET
    """Where the request named it."""
    id: str | UnsetType = UNSET
    outputs: list[OpenInferenceAnswered]
