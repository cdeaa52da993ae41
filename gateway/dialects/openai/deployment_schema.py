"""Deployments, as the Server Node's clients know them."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta


class DeploymentObject(msgspec.Struct, kw_only=True):
    """A deployment in a list. Its ID and its model's are the same."""

    deployment_id: str
    model_id: str
    type: str
    status: str


class DeploymentList(msgspec.Struct):
    """Body of the answer of `GET /v1/deployments`."""

    deployments: list[DeploymentObject]
    count: int


class TensorForm(msgspec.Struct):
    """An input or output of a tensor model."""

    name: str
    shape: list[int] | None
    """Sizes, -1 for any; null for any number of dimensions."""
    dtype: str


class DeploymentMetrics(msgspec.Struct):
    """How busy a deployment is."""

    request_count: int | None
    """Requests of the last 24 hours that ended without failure."""
    avg_latency_ms: float | None
    """Of a tensor model's inferences."""
    running: int
    waiting: int


class Deployment(DeploymentObject, kw_only=True):
    """Body of the answer of `GET /v1/deployments/{id}`."""

    id: str
    input_specs: list[TensorForm]
    """Of tensor models; empty for others."""
    output_specs: list[TensorForm]
    metrics: DeploymentMetrics | None
    """None while it does not serve."""


class Predict(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/predict`."""

    deployment_id: Annotated[str, Meta(min_length=1, max_length=263)]
    input: msgspec.Raw


class PredictBody(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/predict`: an array, or an object with one for each input.

    An array of one dimension less than the model takes is a batch of one.
    """

    deployment_id: Annotated[str, Meta(min_length=1, max_length=263)]
    input: list[Any] | dict[str, Any]


class Prediction(msgspec.Struct, kw_only=True):
    """Body of the answer of `POST /v1/predict`: the model's first output, in a row."""

    deployment_id: str
    output: list[float | int | bool | str | None]
    shape: list[int]
    latency_ms: float


class RawPrediction(msgspec.Struct, kw_only=True):
    """The same, with numbers that are JSON already."""

    deployment_id: str
    output: msgspec.Raw
    shape: list[int]
    latency_ms: float
