"""What the ledger keeps, and what is asked of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum


class Outcome(Enum):
    """What became of a request; values are those of the proto."""

    UNKNOWN = 0
    OK = 1
    CANCELLED = 2
    DEADLINE_EXCEEDED = 3
    FAILED = 4


@dataclass(frozen=True, slots=True)
class Usage:
    """What one request used."""

    id: str
    principal: str
    request_id: str
    model: str
    method: str
    dialect: str
    outcome: Outcome
    start_time: datetime
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    images: int = 0
    queued: timedelta = timedelta()
    ran: timedelta = timedelta()
    user: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are meant; an empty text is no condition."""

    principal: str = ""
    model: str = ""
    dialect: str = ""
    request_id: str = ""
    start_time: datetime | None = None
    """Begun at this time or later."""
    end_time: datetime | None = None
    """Begun before this time."""


class Group(Enum):
    """What sums are made by; values are those of the proto."""

    PRINCIPAL = 1
    MODEL = 2
    DAY = 3
    MONTH = 4
    DIALECT = 5


@dataclass(frozen=True, slots=True)
class Total:
    """Sums of records, and what these have in common by the groups that were asked for."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    images: int
    principal: str = ""
    model: str = ""
    period: str = ""
    """Day or month of UTC, `2026-01-31` or `2026-01`."""
    dialect: str = ""
