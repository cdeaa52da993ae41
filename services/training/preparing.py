"""Prepares jobs: brings their examples into their folders, has them checked, and writes down what
the workers are to do.

The plan is written last: a job that has one is prepared. All of it may be repeated.
"""

import asyncio
import hashlib
import logging
import os
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from services.errors import FailedPrecondition, InvalidArgument, ModelNotFound, NotFound
from services.training.base_models import BaseModel, BaseModels
from services.training.check_process import CheckFailed, checked
from services.training.examples import Checked, Format, Method
from services.training.files import Files
from services.training.folder import JobFolder, LoraPlan, Plan, job_folder
from services.training.job_records import (
    DataSource,
    Dpo,
    Job,
    JobError,
    JobSpec,
    Lora,
    Supervised,
)
from services.training.journal import sync_folder, write_plan
from services.training.records import Caller

_log = logging.getLogger(__name__)
_PIECE_BYTES: Final = 1024 * 1024
_MOST_CHECKS: Final = 3
"""Processes that may break off over a job's files before that is its end."""


class Unfit(Exception):  # noqa: N818 (reads as what happened)
    """A job can't be trained as it is."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """What all workers are told, whatever the job."""

    device: str = "auto"
    threads: int = 0
    nice: int = 10
    memory_bytes: int = 0
    max_checkpoints: int = 10


@dataclass(frozen=True, slots=True)
class _Part:
    """Which of the two files something is about."""

    code: str
    what: str

    def unfit(self, source: DataSource, why: str, found: Checked | None = None) -> Unfit:
        """The end of a job with such a file."""
        found = found or Checked()
        return Unfit(
            JobError(
                self.code,
                f"The {self.what} file can't be used: {why}",
                source.field(self.what),
                found.line,
                found.column,
                found.bad_line_count,
            )
        )


_TRAINING: Final = _Part("invalid_training_file", "training")
_VALIDATION: Final = _Part("invalid_validation_file", "validation")


class Preparer:
    """Prepares jobs."""

    def __init__(
        self,
        root: Path,
        files: Files,
        bases: BaseModels,
        datasets: Mapping[str, Path],
        worker: WorkerPlan,
        *,
        check_timeout_s: float = 3600.0,
    ) -> None:
        """Takes the folder of training, where files, bases and datasets are, what workers are
        told, and how long the check of a file may take."""
        self._root = root
        self._files = files
        self._bases = bases
        self._datasets = datasets
        self._worker = worker
        self._check_timeout_s = check_timeout_s
        self._broken: dict[str, int] = {}

    async def is_prepared(self, job: Job) -> bool:
        """Whether a job has its plan."""
        return await asyncio.to_thread(job_folder(self._root, job.id).plan.exists)

    async def clear(self, job_id: str) -> None:
        """Removes the copies of a job's examples, which nobody needs any more."""
        await asyncio.to_thread(job_folder(self._root, job_id).clear_examples)

    async def with_examples(self) -> set[str]:
        """IDs of all jobs of which there are copies of examples."""
        return await asyncio.to_thread(_with_examples, self._root)

    async def prepare(self, job: Job) -> str:
        """Prepares a job, and tells people what was found. Cancelling stops it at once.

        Raises:
            Unfit: it can't be trained.
            CheckFailed: the check broke off; to be tried again.
            DomainError: something does not answer; to be tried again.
        """
        folder = job_folder(self._root, job.id)
        await asyncio.to_thread(_make, folder)
        spec = job.spec
        train = await self._part(job, spec.training, folder.training, _TRAINING, None)
        valid: Checked | None = None
        if spec.validation is not None:
            valid = await self._part(
                job, spec.validation, folder.validation, _VALIDATION, train.format
            )
        base = await self._base(spec)
        plan = self._plan(job, base, train, has_validation=valid is not None)
        await asyncio.to_thread(write_plan, folder.plan, plan)
        self._broken.pop(job.id, None)
        measured = f" and {valid.example_count:,} to measure on" if valid else ""
        return f"The files are good: {train.example_count:,} examples to train on{measured}."

    async def _part(
        self, job: Job, source: DataSource, path: Path, part: _Part, format: Format | None
    ) -> Checked:
        await self._bring(job, source, path, part)
        method = Method.DPO if isinstance(job.spec.method, Dpo) else Method.SUPERVISED
        try:
            found = await checked(path, method, format, self._check_timeout_s)
        except CheckFailed as error:
            tries = self._broken[job.id] = self._broken.get(job.id, 0) + 1
            if tries < _MOST_CHECKS:
                raise
            _log.error("the check of a file of %s broke off: %s", job.id, error)
            del self._broken[job.id]
            raise part.unfit(source, "it could not be read to its end.") from error
        if not found.good:
            raise part.unfit(source, _what_is_wrong(found), found)
        return found

    async def _bring(self, job: Job, source: DataSource, path: Path, part: _Part) -> None:
        """Brings a file into the folder, whole or not at all."""
        partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
        sha256 = ""
        try:
            if source.dataset:
                pieces = self._dataset(source.dataset)
            else:
                # Whether the owner may use it was seen to when the job was made.
                caller = Caller(job.owner, is_admin=True)
                sha256 = (await self._files.get(source.file_id, caller)).sha256
                pieces = self._files.read(source.file_id, 0, caller)
            async with aclosing(pieces):
                found = await _written(partial, pieces)
            if sha256 and found != sha256:
                raise part.unfit(source, "it is damaged. Upload it again.")
            await asyncio.to_thread(_put, partial, path)
        except NotFound as error:
            raise part.unfit(source, error.message) from error
        finally:
            await asyncio.to_thread(partial.unlink, missing_ok=True)

    async def _dataset(self, name: str) -> AsyncGenerator[bytes, None]:
        path = self._datasets.get(name)
        if path is None:
            raise NotFound(f"This service has no dataset {name[:80]!r} (any more).")
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except OSError as error:
            _log.error("the dataset %s can't be read: %s", name, error)
            raise NotFound(
                f"The dataset {name[:80]!r} can't be read. Have the operator look at its path."
            ) from error
        try:
            while piece := await asyncio.to_thread(file.read1, _PIECE_BYTES):
                yield piece
        finally:
            await asyncio.to_thread(file.close)  # waits for a read that nobody waits for any more

    async def _base(self, spec: JobSpec) -> BaseModel:
        try:
            return await self._bases.find(spec.base_model)
        except ModelNotFound as error:
            raise Unfit(JobError("model_not_found", error.message, "base_model")) from error
        except (FailedPrecondition, InvalidArgument) as error:
            raise Unfit(JobError("invalid_base_model", error.message, "base_model")) from error

    def _plan(self, job: Job, base: BaseModel, train: Checked, *, has_validation: bool) -> Plan:
        spec, chosen, worker = job.spec, job.spec.hyperparameters, self._worker
        assert train.format is not None  # a file without a good line is not good
        method = spec.method
        beta = method.beta if isinstance(method, Dpo) else None
        return Plan(
            job_id=job.id,
            model_id=job.model_id,
            base_id=base.whole_id,
            base_folder=str(base.folder),
            adapter_folder="" if base.adapter is None else str(base.adapter),
            kind=base.kind,
            examples=train.format.value,
            has_validation=has_validation,
            method="dpo" if isinstance(method, Dpo) else "supervised",
            target=method.target.value if isinstance(method, Supervised) else "assistant",
            beta=0.1 if beta is None else beta,
            lora=_lora(spec.tuning) if isinstance(spec.tuning, Lora) else None,
            epoch_count=chosen.epoch_count,
            batch_size=chosen.batch_size,
            learning_rate_multiplier=chosen.learning_rate_multiplier,
            learning_rate=chosen.learning_rate,
            warmup_ratio=chosen.warmup_ratio,
            weight_decay=chosen.weight_decay,
            max_sequence_tokens=chosen.max_sequence_tokens,
            context_length=base.context_length,
            seed=spec.seed or 0,
            checkpoint_interval_steps=spec.checkpoint_interval_steps,
            max_checkpoints=worker.max_checkpoints,
            device=worker.device,
            threads=worker.threads,
            nice=worker.nice,
            memory_bytes=worker.memory_bytes,
        )


def _what_is_wrong(found: Checked) -> str:
    """Says what is wrong with a file, in a sentence."""
    if not found.line:
        return f"{found.message}."
    others = f" {found.bad_line_count:,} lines are bad." if found.bad_line_count > 1 else ""
    where = f"line {found.line}, column {found.column}" if found.column else f"line {found.line}"
    return f"{where}: {found.message}.{others}"


def _lora(tuning: Lora) -> LoraPlan:
    return LoraPlan(tuning.rank, tuning.alpha, tuning.dropout or 0.0, tuning.target_modules)


def _with_examples(root: Path) -> set[str]:
    return {file.parent.name for file in root.glob("jobs/*/*.jsonl*") if "journal" not in file.name}


def _make(folder: JobFolder) -> None:
    """Makes a job's folder; one of before loses what was brought half."""
    folder.path.mkdir(parents=True, exist_ok=True)
    for left in folder.path.glob("*.jsonl.*.partial"):
        left.unlink(missing_ok=True)


async def _written(path: Path, pieces: AsyncGenerator[bytes, None]) -> str:
    """Writes pieces and returns their SHA-256."""
    hash = hashlib.sha256()

    def write(file: IO[bytes], piece: bytes) -> None:
        hash.update(piece)
        file.write(piece)

    file = await asyncio.to_thread(path.open, "wb")
    try:
        async for piece in pieces:
            await asyncio.to_thread(write, file, piece)
    finally:
        await asyncio.to_thread(file.close)  # as above
    return hash.hexdigest()


def _put(partial: Path, path: Path) -> None:
    """Puts a file to where it is looked for, once all of it is on the disk."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)
