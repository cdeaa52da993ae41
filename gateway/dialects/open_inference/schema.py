"""Requests of the Open Inference Protocol."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

Parameters = dict[str, bool | int | float | str]
"""Named values; which ones there are depends on where they stand."""

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Size = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class OpenInferenceInput(msgspec.Struct, kw_only=True):
    """A tensor for the model."""

    name: Name
    shape: Annotated[list[Size], Meta(max_length=32)]
    datatype: Name
    """In Triton's spelling: BOOL, INT8 … FP64, BYTES."""
    parameters: Parameters = msgspec.field(default_factory=Parameters)
    """`binary_data_size`: its bytes stand behind the JSON, in the order of the inputs."""
    data: list[Any] | UnsetType = UNSET
    """Its elements, in a row or nested as the shape says."""


class OpenInferenceOutput(msgspec.Struct, kw_only=True):
    """A tensor that is wanted of the model."""

    name: Name
    parameters: Parameters = msgspec.field(default_factory=Parameters)
    """`binary_data`: whether it shall stand behind the JSON."""


class OpenInferenceRequest(msgspec.Struct, kw_only=True):
    """Body of `POST /v2/models/{model}/infer`."""

    inputs: Annotated[list[OpenInferenceInput], Meta(min_length=1, max_length=1024)]
    outputs: Annotated[list[OpenInferenceOutput], Meta(max_length=1024)] = []
    """All of the model's, where it is empty."""
    id: Annotated[str, Meta(max_length=1024)] = ""
    """Comes back in the answer."""
    parameters: Parameters = msgspec.field(default_factory=Parameters)
    """`timeout` in microseconds; `binary_data_output` for all outputs."""
