"""What TrainingService keeps of jobs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum


class JobState(StrEnum):
    """Where a job stands. `services.training.transitions` says what may follow what."""

    VALIDATING_FILES = "validating_files"
    """Its files are copied and read."""
    QUEUED = "queued"
    """Waits for a worker."""
    RUNNING = "running"
    """A worker trains, or is being started again after a crash."""
    PAUSED = "paused"
    """Waits to be resumed."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
"""States that nothing follows."""


class Priority(IntEnum):
    """Order among waiting jobs; the higher goes first."""

    LOW = 1
    NORMAL = 2
    HIGH = 3


class Target(StrEnum):
    """Which tokens are learnt."""

    ASSISTANT = "assistant"
    """Those that the assistant says, and completions."""
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Supervised:
    """To answer as the examples do."""

    target: Target = Target.ASSISTANT


@dataclass(frozen=True, slots=True)
class Dpo:
    """To prefer the preferred of two answers."""

    beta: float | None = None
    """None: chosen by the service, 0.1."""


@dataclass(frozen=True, slots=True)
class Lora:
    """Small matrices beside the weights."""

    rank: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Full:
    """All weights."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """How a training runs. None is chosen by the service."""

    epoch_count: int | None = None
    batch_size: int | None = None
    """Examples of one optimiser step."""
    learning_rate_multiplier: float | None = None
    learning_rate: float | None = None
    warmup_ratio: float | None = None
    weight_decay: float | None = None
    max_sequence_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class DataSource:
    """What is trained on: one of the two is set."""

    file_id: str = ""
    """`file-...`"""
    dataset: str = ""
    """Name of a dataset of the configuration."""

    def field(self, what: str) -> str:
        """The job's field that names it, where `what` is `training` or `validation`."""
        return f"{what}_dataset" if self.dataset else f"{what}_file"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a caller asks for."""

    base_model: str
    """ID or alias, without `models/`."""
    training: DataSource
    validation: DataSource | None = None
    method: Supervised | Dpo = Supervised()
    tuning: Lora | Full = Lora()
    hyperparameters: Hyperparameters = Hyperparameters()
    suffix: str = ""
    seed: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    priority: Priority = Priority.NORMAL
    checkpoint_interval_steps: int | None = None


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed."""

    code: str
    """One word for programs: `invalid_training_file`, `invalid_validation_file`, `out_of_memory`,
    `disk_full`, `worker_died`, `model_not_found`, `deployment_failed`, `internal_error`."""
    message: str
    """What happened and what to do, for people; without paths."""
    param: str = ""
    """Field of the job at fault."""
    line: int = 0
    """First bad line of the file, from 1."""
    column: int = 0
    """Column in it, from 1."""
    bad_line_count: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job."""

    id: str
    """`ftjob-` and 24 characters."""
    owner: str
    spec: JobSpec
    """As asked for, with `base_model` an ID and the seed drawn."""
    state: JobState
    model_id: str
    """`ft:{base}:{organisation}:{suffix}:{short}`: what the result will be called."""
    create_time: datetime
    update_time: datetime
    requested_state: JobState | None = None
    """PAUSED or CANCELLED: asked for, and not done yet."""
    checked: bool = False
    """Whether its files were read and found good: it has been QUEUED."""
    effective: Hyperparameters | None = None
    """Everything chosen. From when it runs."""
    start_time: datetime | None = None
    end_time: datetime | None = None
    estimated_end_time: datetime | None = None
    epoch: float = 0.0
    step: int = 0
    step_count: int = 0
    """0 until it is known."""
    trained_token_count: int | None = None
    """Set when it has succeeded."""
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    result_files: tuple[str, ...] = ()
    error: JobError | None = None
    restart_count: int = 0
    attempt: int = 0
    """Number of the worker that runs or is to be started, from 1; 0 before the first."""
    journal_offset: int = 0
    """Bytes of the worker's journal that are in the store already."""

    @property
    def progress(self) -> float:
        """Share that is done, from 0 to 1."""
        if self.state is JobState.SUCCEEDED:
            return 1.0
        return min(1.0, self.step / self.step_count) if self.step_count else 0.0


class Level(StrEnum):
    """How much an event matters."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class StateChange:
    """A job went from one state to another."""

    before: JobState | None
    """None for a new job."""
    after: JobState


@dataclass(frozen=True, slots=True)
class MetricsReport:
    """The training was measured."""

    step: int
    epoch: float
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CheckpointWritten:
    """A checkpoint is there."""

    checkpoint_id: str


@dataclass(frozen=True, slots=True)
class JobEvent:
    """Something that happened to a job."""

    id: str
    """`ftevent-` and 24 characters."""
    job_id: str
    number: int
    """Order among the events of its job, from 1, without gaps."""
    create_time: datetime
    level: Level
    message: str
    detail: StateChange | MetricsReport | CheckpointWritten | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A snapshot that can be served and gone on from."""

    id: str
    """`ftckpt_` and 24 characters."""
    job_id: str
    create_time: datetime
    step: int
    epoch: float
    metrics: Mapping[str, float]
    model_id: str
    """`ft:...:ckpt-step-{step}`."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that the store is to number and name."""

    level: Level
    message: str
    detail: StateChange | MetricsReport | CheckpointWritten | None = None
    create_time: datetime | None = None
    """None: now."""
