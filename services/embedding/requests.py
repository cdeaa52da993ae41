"""What callers ask of EmbeddingService, and what they get, free of any transport.

Fields, ranges and defaults are those of `protos/penstock/embedding/v1`; an optional field that is
None was not given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from services.metering import Work


class Priority(Enum):
    """Order among waiting calls; values are those of the proto."""

    LOW = 1
    NORMAL = 2
    HIGH = 3


class Truncation(Enum):
    """What happens to an input that is too long; values are those of the settings."""

    REFUSE = "refuse"
    KEEP_START = "keep_start"
    KEEP_END = "keep_end"


class Task(Enum):
    """What a vector is for; values are those of the proto."""

    UNSPECIFIED = 0
    QUERY = 1
    DOCUMENT = 2
    SIMILARITY = 3
    CLASSIFICATION = 4
    CLUSTERING = 5


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Asks for vectors."""

    model: str
    inputs: Sequence[str | Sequence[int]]
    """Texts and lists of token IDs."""
    dimensions: int | None = None
    normalize: bool | None = None
    truncation: Truncation | None = None
    task: Task = Task.UNSPECIFIED
    prompt_name: str = ""
    user: str = ""
    priority: Priority = Priority.NORMAL
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Asks for documents to be ordered."""

    model: str
    query: str
    documents: Sequence[str]
    top_n: int | None = None
    max_tokens_per_document: int | None = None
    truncation: Truncation | None = None
    user: str = ""
    priority: Priority = Priority.NORMAL
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf, and until when, a call runs."""

    principal: str = ""
    may_hurry: bool = False
    """Whether the caller may ask for priority HIGH."""
    deadline: float | None = None
    """On the event loop's clock."""
    request_id: str = ""
    work: Work | None = None
    """What the account is told of the call, but for the model and the tokens. None: none is
    kept."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where a call's time went, in seconds."""

    queue_s: float
    """Waiting for the engine, before and between batches."""
    compute_s: float
    """Batches that held a part of it."""


@dataclass(frozen=True, slots=True)
class EmbedAnswer:
    """Vectors, in the order of the inputs."""

    model: str
    vectors: Sequence[bytes]
    """Each `dimensions` little-endian float32."""
    dimensions: int
    token_counts: Sequence[int]
    truncated: Sequence[bool]
    fingerprint: str
    timings: Timings


class RerankMethod(Enum):
    """How documents were scored; values are those of the proto."""

    CROSS_ENCODER = 1
    EMBEDDING_SIMILARITY = 2


@dataclass(frozen=True, slots=True)
class Ranked:
    """The score of one document."""

    index: int
    score: float
    truncated: bool


@dataclass(frozen=True, slots=True)
class RerankAnswer:
    """Documents, best first."""

    model: str
    results: Sequence[Ranked]
    method: RerankMethod
    tokens: int
    timings: Timings
