"""Publishes what came of a job: its metrics as a file of its owner, and its result as a model.

All of it may be repeated, for the service may be killed in between.
"""

import asyncio
import csv
import hashlib
import io
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.errors import (
    Cancelled,
    DeadlineExceeded,
    DomainError,
    Internal,
    InvalidCredentials,
    MissingCredentials,
    ModelNotReady,
    PermissionDenied,
    QueueFull,
    RateLimited,
    StorageFull,
    Unavailable,
)
from services.training.base_models import BaseModels
from services.training.files import Files
from services.training.folder import JobFolder, Metrics, job_folder
from services.training.job_records import Job
from services.training.journal import read_records
from services.training.links import link_result, unlink_model
from services.training.receiving import NewFile
from services.training.records import Caller, Purpose

_log = logging.getLogger(__name__)
_FILENAME: Final = "step_metrics.csv"
_COLUMNS: Final = {
    "train_loss": "train_loss",
    "train_accuracy": "train_mean_token_accuracy",
    "valid_loss": "valid_loss",
    "valid_mean_token_accuracy": "valid_mean_token_accuracy",
}
"""Columns beside the step, and the metrics that are in them."""
_LATER: Final = (
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidCredentials,
    MissingCredentials,
    ModelNotReady,
    PermissionDenied,
    QueueFull,
    RateLimited,
    StorageFull,
    Unavailable,
)
"""What may go by: no fault of the result."""


class Refused(Exception):  # noqa: N818 (reads as what happened)
    """The catalogue doesn't take the result, now or later."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Published:
    """What was published."""

    file_id: str
    """Of the metrics; empty where they could not be kept."""
    notes: tuple[str, ...] = ()
    """What people should know of it."""


class Publisher:
    """Publishes results."""

    def __init__(self, root: Path, files: Files, bases: BaseModels) -> None:
        """Takes the folder of training, files of the purpose FINE_TUNE_RESULTS, and the
        catalogue."""
        self._root = root
        self._files = files
        self._bases = bases

    async def publish(self, job: Job) -> Published:
        """Publishes the result of a job, whose worker has ended well.

        Raises:
            Refused: the catalogue doesn't take it.
            DomainError: it can't be done now; to be tried again.
        """
        folder = job_folder(self._root, job.id)
        if not await asyncio.to_thread(folder.result.is_dir):
            raise Unavailable("The result is not to be seen yet.")
        await asyncio.to_thread(link_result, self._root, job.id, job.model_id)
        notes: list[str] = []
        try:
            file_id = await self._keep_metrics(job, folder)
        except DomainError as error:
            if isinstance(error, _LATER):
                raise
            _log.warning("the metrics of %s could not be kept: %s", job.id, error.message)
            file_id = ""
            notes.append(f"The file of metrics could not be kept: {error.message}")
        notes.append(await self._deploy(job))
        return Published(file_id, tuple(filter(None, notes)))

    async def withdraw(self, job: Job) -> None:
        """Takes back what may have been begun of it."""
        await asyncio.to_thread(unlink_model, self._root, job.model_id)

    async def _keep_metrics(self, job: Job, folder: JobFolder) -> str:
        content = await asyncio.to_thread(metrics_table, folder.journal)
        new = NewFile(
            filename=_FILENAME,
            purpose=Purpose.FINE_TUNE_RESULTS,
            mime_type="text/csv",
            size_bytes=len(content),
            # With a hash of what nobody knows before: no caller can have taken this ID.
            request_id=f"results-{job.id}-{hashlib.sha256(content).hexdigest()}",
        )
        return (await self._files.upload(new, _pieces(content), Caller(job.owner))).id

    async def _deploy(self, job: Job) -> str:
        try:
            trouble = await self._bases.deploy(job.model_id, job.spec.base_model, job.id, job.owner)
        except DomainError as error:
            if isinstance(error, _LATER):
                raise
            raise Refused(error.message) from error
        return trouble and f"The model does not serve yet: {trouble}"


def metrics_table(journal: Path) -> bytes:
    """Returns the metrics of a journal as CSV, each step once."""
    rows: dict[int, dict[str, float]] = {}
    offset = 0
    while True:
        records, end = read_records(journal, offset)
        for record in records:
            if isinstance(record, Metrics):
                row = rows.setdefault(record.step, {})
                row.update(
                    {name: value for name, value in record.metrics.items() if name not in row}
                )
        if end <= offset:
            break
        offset = end
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["step", *_COLUMNS])
    for step, row in sorted(rows.items()):
        values = [row.get(name) for name in _COLUMNS.values()]
        if any(value is not None for value in values):
            table.writerow([step, *("" if value is None else repr(value) for value in values)])
    return text.getvalue().encode()


async def _pieces(content: bytes) -> AsyncGenerator[bytes, None]:
    size = 1024 * 1024
    for start in range(0, len(content), size):
        yield content[start : start + size]
