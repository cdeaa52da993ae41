"""What TrainingService keeps."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Purpose(StrEnum):
    """What a file is for, spelt as OpenAI does."""

    FINE_TUNE = "fine-tune"
    FINE_TUNE_RESULTS = "fine-tune-results"
    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"
    USER_DATA = "user_data"
    ASSISTANTS = "assistants"
    VISION = "vision"
    EVALS = "evals"


UPLOADED = frozenset(Purpose) - {Purpose.FINE_TUNE_RESULTS, Purpose.BATCH_OUTPUT}
"""Purposes of files that callers bring; the others are written by the service."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for something."""

    id: str
    is_admin: bool = False
    standing: str = ""
    """What is kept of who has no key."""

    @property
    def sees(self) -> str | None:
        """Whose files and jobs it sees; None for everybody's."""
        return None if self.is_admin else self.id


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that is being received. Nobody sees it."""

    id: str
    """`file-` and 24 characters."""
    owner: str
    filename: str
    purpose: Purpose
    mime_type: str


@dataclass(frozen=True, slots=True)
class File(Draft):
    """A file, all of it received."""

    size_bytes: int
    sha256: str
    """Hexadecimal."""
    create_time: datetime
    expire_time: datetime | None = None
    """When it is deleted by itself. None: never."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page to read from the store, of a list by time of creation."""

    size: int
    after: str = ""
    """ID of the item before the page."""
    descending: bool = True
    after_time: datetime | None = None
    """When that item was created. None: the store is to look it up."""
