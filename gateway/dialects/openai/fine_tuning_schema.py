"""Fine-tuning jobs, as OpenAI documents them.

An optional field that is null is absent. Unknown fields are ignored. The status `paused` is ours:
OpenAI documents pausing, and no word for a job that is.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.dialects.openai.embedding_schema import ModelId, Text
from gateway.dialects.openai.schema import INT32_MAX, AnyJson, Labels

Auto = Literal["auto"]
Limit = Annotated[int, Meta(ge=1, le=1000)]


class TuningHyperparameters(msgspec.Struct, kw_only=True):
    """How a training runs. `auto` and what is left out are chosen by the service."""

    n_epochs: Auto | Annotated[int, Meta(ge=1, le=50)] | None = None
    batch_size: Auto | Annotated[int, Meta(ge=1, le=256)] | None = None
    learning_rate_multiplier: Auto | Annotated[float, Meta(gt=0, le=1000)] | None = None


class PreferenceHyperparameters(TuningHyperparameters, kw_only=True):
    """How a training on preferences runs."""

    beta: Auto | Annotated[float, Meta(ge=0, le=2)] | None = None


class SupervisedTuning(msgspec.Struct, kw_only=True):
    """Learns to answer as the examples do."""

    hyperparameters: TuningHyperparameters | None = None


class PreferenceTuning(msgspec.Struct, kw_only=True):
    """Learns to prefer the preferred of two answers."""

    hyperparameters: PreferenceHyperparameters | None = None


class TuningMethod(msgspec.Struct, kw_only=True):
    """What is learnt. `reinforcement` is known, and refused."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedTuning | None = None
    dpo: PreferenceTuning | None = None
    reinforcement: AnyJson = msgspec.UNSET


class WandbSettings(msgspec.Struct, kw_only=True):
    """Where Weights & Biases would be told of the job."""

    project: str
    name: str | None = None
    entity: str | None = None
    tags: list[str] | None = None


class TuningIntegration(msgspec.Struct, kw_only=True):
    """A service to be told of the job. It changes nothing: nothing is sent anywhere."""

    type: Literal["wandb"]
    wandb: WandbSettings


class FineTuningJobCreate(msgspec.Struct, kw_only=True):
    """Body of `POST /v1/fine_tuning/jobs`. What `method` sets wins over `hyperparameters`."""

    model: ModelId
    training_file: Text
    validation_file: Text | None = None
    suffix: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Meta(ge=0, le=INT32_MAX)] | None = None
    method: TuningMethod | None = None
    hyperparameters: TuningHyperparameters | None = None
    integrations: list[TuningIntegration] | None = None
    metadata: Labels | None = None


class Nothing(msgspec.Struct):
    """A body that says nothing."""


class FineTuningJobsQuery(msgspec.Struct, kw_only=True):
    """Which page of the list of jobs is wanted; `metadata[k]=v` keeps those with that label.

    `metadata=null` keeps those without any.
    """

    after: str | None = None
    limit: Limit = 20
    metadata: Labels | Literal["null"] | None = None


class FineTuningEventsQuery(msgspec.Struct, kw_only=True):
    """Which page of the list of events is wanted; or with `stream`, after which they are."""

    after: str | None = None
    limit: Limit | None = None
    stream: bool | None = None


class FineTuningCheckpointsQuery(msgspec.Struct, kw_only=True):
    """Which page of the list of checkpoints is wanted."""

    after: str | None = None
    limit: Limit = 10


class JobHyperparameters(msgspec.Struct):
    """How a training runs: what was chosen, else what was asked for."""

    n_epochs: int | Auto
    batch_size: int | Auto
    learning_rate_multiplier: float | Auto


class JobPreferenceHyperparameters(JobHyperparameters):
    """How a training on preferences runs."""

    beta: float | Auto


class JobSupervised(msgspec.Struct):
    """A job that learns from examples."""

    hyperparameters: JobHyperparameters


class JobPreference(msgspec.Struct):
    """A job that learns from preferences."""

    hyperparameters: JobPreferenceHyperparameters


class JobMethod(msgspec.Struct):
    """What a job learns: of the two, the one that `type` names."""

    type: Literal["supervised", "dpo"]
    supervised: JobSupervised | msgspec.UnsetType = msgspec.UNSET
    dpo: JobPreference | msgspec.UnsetType = msgspec.UNSET


class JobFailure(msgspec.Struct):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class FineTuningJob(msgspec.Struct):
    """A job."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    error: JobFailure | None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: JobHyperparameters
    model: str
    organization_id: str
    result_files: list[str]
    status: Literal[
        "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
    ]
    trained_tokens: int | None
    training_file: str
    validation_file: str | None
    integrations: list[TuningIntegration]
    seed: int
    estimated_finish: int | None
    method: JobMethod
    metadata: dict[str, str]


class FineTuningJobList(msgspec.Struct):
    """Body of the answer of `GET /v1/fine_tuning/jobs`."""

    object: Literal["list"]
    data: list[FineTuningJob]
    has_more: bool


class FineTuningJobEvent(msgspec.Struct):
    """Something that happened to a job. `data` is what was measured: null for a mere message."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, int | float] | None


class FineTuningJobEventList(msgspec.Struct):
    """Body of the answer of `GET /v1/fine_tuning/jobs/{fine_tuning_job_id}/events`."""

    object: Literal["list"]
    data: list[FineTuningJobEvent]
    has_more: bool


class FineTuningJobCheckpoint(msgspec.Struct):
    """A snapshot of the model that a job makes."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, int | float]
    step_number: int


class FineTuningJobCheckpointList(msgspec.Struct):
    """Body of the answer of `GET /v1/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints`."""

    object: Literal["list"]
    data: list[FineTuningJobCheckpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool
