"""Training jobs, as the dialect documents them.

An optional field that is null is absent. Unknown fields are ignored.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Method = Literal["lora", "full"]
TrainingWord = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
Dataset = Annotated[str, Meta(min_length=1, max_length=256)]
"""Name of a dataset of the configuration, or ID of an uploaded file."""


class TrainingStart(msgspec.Struct, kw_only=True):
    """Body of `POST /api/v1/ai/training/start`."""

    base_model: Annotated[str, Meta(min_length=1, max_length=263)]
    dataset: Dataset
    epochs: Annotated[int, Meta(ge=1, le=50)] | None = None
    learning_rate: Annotated[float, Meta(gt=0, le=1)] | None = None
    batch_size: Annotated[int, Meta(ge=1, le=256)] | None = None
    method: Method | None = None
    suffix: Annotated[str, Meta(max_length=64)] | None = None
    validation_dataset: Dataset | None = None
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class TrainingStarted(msgspec.Struct, kw_only=True):
    """Body of the answer of `POST /api/v1/ai/training/start`."""

    id: str
    job_id: str
    status: TrainingWord
    base_model: str
    dataset: str
    epochs: int | None
    created_at: str | None


class TrainingStatus(TrainingStarted, kw_only=True):
    """How a job stands."""

    requested_status: Literal["paused", "cancelled"] | None
    """What was asked for and isn't done yet."""
    progress: float
    epoch: float
    step: int
    total_steps: int
    metrics: dict[str, float]
    model_id: str | None
    error: str | None
    started_at: str | None
    finished_at: str | None
