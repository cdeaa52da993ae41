"""What a job tells while it waits, runs and ends."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from services.image.requests import ImageRequest


class State(Enum):
    """Where a job stands; values are those of the proto."""

    QUEUED = 1
    RUNNING = 2
    INTERRUPTING = 3
    FINISHED = 4


class FinishReason(Enum):
    """Why a job ended; values are those of the proto."""

    COMPLETED = 1
    INTERRUPTED = 2


@dataclass(frozen=True, slots=True)
class Preview:
    """A cheap picture of work in progress."""

    data: bytes = field(repr=False)
    mime_type: str
    step: int


@dataclass(frozen=True, slots=True)
class Queued:
    """The job was admitted."""

    job_id: str
    model: str
    queue_position: int
    create_time: float
    """Seconds since the epoch, as all times here."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    job_id: str
    state: State
    queue_position: int
    batch_index: int
    batch_count: int
    step: int
    step_count: int
    fraction: float
    remaining_s: float | None
    create_time: float
    start_time: float | None
    preview: Preview | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class PartialImage:
    """A picture as it is part of the way, in its final size and format."""

    index: int
    partial_index: int
    data: bytes = field(repr=False)
    mime_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """One image."""

    index: int
    data: bytes = field(repr=False)
    mime_type: str
    width: int
    height: int
    seed: int
    subseed: int | None
    infotext: str


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a job's time went, in seconds."""

    queue_s: float
    denoise_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class Finish:
    """The job ended."""

    reason: FinishReason
    image_count: int
    effective_request: ImageRequest
    info: Mapping[str, Any]
    """The WebUI's `info` object: what JSON can say."""
    prompt_tokens: int
    timings: Timings
    fingerprint: str


Event = Queued | Progress | PartialImage | FinishedImage | Finish
