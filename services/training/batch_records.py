"""What TrainingService keeps of batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class BatchState(StrEnum):
    """Where a batch stands. `services.training.batch_states` says what may follow what."""

    VALIDATING = "validating"
    """Its file is read."""
    IN_PROGRESS = "in_progress"
    """Its requests run, or wait to."""
    FINALIZING = "finalizing"
    """All have run; its files are written."""
    CANCELLING = "cancelling"
    """Whoever runs it lets go of it; then its files are written."""
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


BATCH_ENDED = frozenset(
    {BatchState.COMPLETED, BatchState.FAILED, BatchState.EXPIRED, BatchState.CANCELLED}
)
"""States that nothing follows."""


@dataclass(frozen=True, slots=True)
class BatchError:
    """Why a batch has failed."""

    code: str
    message: str
    param: str = ""
    line: int | None = None
    """From 1 on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """What a caller asks for."""

    input_file: str
    """`file-...`"""
    endpoint: str
    window: timedelta = timedelta(hours=24)
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    output_time_to_live: timedelta | None = None
    """None: for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch."""

    id: str
    """`batch_` and 24 characters."""
    owner: str
    spec: BatchSpec
    state: BatchState
    create_time: datetime
    expire_time: datetime
    """When its window ends."""
    outcome: BatchState | None = None
    """The end that it comes to once its files are written. None: not known."""
    owner_standing: str = ""
    """What its owner may do, where no key tells that later."""
    salt: str = ""
    """What no caller knows: names what is made for the batch."""
    total: int = 0
    """Its requests; 0 until the file is read."""
    completed: int = 0
    failed: int = 0
    errors: tuple[BatchError, ...] = ()
    output_file: str = ""
    error_file: str = ""
    in_progress_time: datetime | None = None
    finalizing_time: datetime | None = None
    completed_time: datetime | None = None
    failed_time: datetime | None = None
    expired_time: datetime | None = None
    cancelling_time: datetime | None = None
    cancelled_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A batch that somebody has leased."""

    batch: Batch
    lease_id: str
    done: bytes
    """Which requests have results: a bit for each, the lowest of the first byte first."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some results, in a blob: lines for the output file, and lines for the error file after
    them."""

    file_id: str
    output_bytes: int
    error_bytes: int
