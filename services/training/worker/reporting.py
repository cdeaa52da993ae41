"""What the worker tells: records in the journal, not more often than is of use. No torch."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from services.training.folder import (
    Chosen,
    Dropped,
    Metrics,
    Note,
    Progress,
    Record,
    Saved,
)
from services.training.journal import Journal, read_records

_PROGRESS_S: Final = 0.3
"""Least time between two records of progress."""


class Reporter:
    """Writes records. Of several ranks, only the first has a journal; the others tell nothing."""

    def __init__(self, journal: Journal | None, path: Path) -> None:
        self._journal = journal
        self._path = path
        self._last_progress = 0.0
        self.step = 0
        """Steps done."""
        self.epoch = 0.0

    @property
    def leads(self) -> bool:
        """Whether this is the rank that tells and saves."""
        return self._journal is not None

    def write(self, record: Record) -> None:
        """Writes any record."""
        if self._journal is not None:
            self._journal.write(record)

    def chosen(self, record: Chosen) -> None:
        """Tells what was chosen."""
        self.write(record)

    def progress(self, step: int, epoch: float, remaining_s: float | None, *, last: bool) -> None:
        """Tells that a step is done; `last` is told in any case."""
        self.step, self.epoch = step, epoch
        now = time.monotonic()
        if last or now - self._last_progress >= _PROGRESS_S:
            self._last_progress = now
            self.write(Progress(time.time(), step, epoch, remaining_s))

    def metrics(self, metrics: Mapping[str, float]) -> None:
        """Tells what was measured at the last step."""
        self.write(Metrics(time.time(), self.step, self.epoch, dict(metrics)))

    def saved(self, step: int, epoch: float, metrics: Mapping[str, float], size_bytes: int) -> None:
        """Tells of a checkpoint."""
        self.write(Saved(time.time(), step, epoch, dict(metrics), size_bytes))

    def dropped(self, step: int) -> None:
        """Tells that a checkpoint goes."""
        self.write(Dropped(time.time(), step))

    def note(self, message: str, level: str = "info") -> None:
        """Tells people something."""
        self.write(Note(time.time(), level, message))

    def told(self) -> set[int]:
        """Steps of the checkpoints that the journal tells of, by whichever worker."""
        steps: set[int] = set()
        offset = 0
        while True:
            records, end = read_records(self._path, offset)
            if end == offset:
                return steps
            offset = end
            for record in records:
                if isinstance(record, Saved):
                    steps.add(record.step)
                elif isinstance(record, Dropped):
                    steps.discard(record.step)
