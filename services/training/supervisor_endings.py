"""What follows when a worker has ended, or there is none any more. A worker is gone before its job
leaves the state in which it ran."""

import asyncio
import errno
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from services.training.folder import Ended, JobFolder, Order
from services.training.job_records import (
    DataSource,
    Job,
    JobError,
    JobSpec,
    JobState,
    Level,
    NewEvent,
)
from services.training.job_store import JobStore
from services.training.journal import read_order, write_order
from services.training.publishing import Publisher, Refused
from services.training.supervisor_moves import to_next_attempt, to_state

_log = logging.getLogger(__name__)
FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a disk without room."""
_LONGEST_PAUSE_S: Final = 60.0
_HARDLY_ANY_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Death:
    """A worker that has died."""

    why: str
    """For people."""
    code: str
    """Of the job's error, if it is given up for that; empty: that workers die."""
    deaths: int
    """In a row, this one included."""
    journal_offset: int
    """How far the journal is done with."""


class Endings:
    """Decides what becomes of jobs whose workers are gone."""

    def __init__(
        self,
        root: Path,
        store: JobStore,
        publisher: Publisher,
        *,
        max_restarts: int,
        restart_pause_s: float,
    ) -> None:
        self._root = root
        self._store = store
        self._publisher = publisher
        self._max_restarts = max_restarts
        self._restart_pause_s = restart_pause_s

    async def conclude(
        self, job: Job, folder: JobFolder, ended: Ended, end: int, deaths: int
    ) -> float:
        """Does what follows from the end that a worker has written.

        Returns:
            How long to wait before another worker is started, where one is to be.
        """
        if job.requested_state is JobState.CANCELLED:
            await self.cancel(job, folder)
        elif ended.outcome == "succeeded":
            await self._succeed(job, folder, ended, end)
        elif ended.outcome == "failed" and not ended.transient:
            message = ended.message or "The training failed. The log of the service says why."
            code = ended.code or "internal_error"
            error = JobError(code, message, _field(ended.param, job.spec))
            await self.fail(job, folder, error)
        elif job.requested_state is JobState.PAUSED:
            # Also where it failed at something that may go by.
            await self.pause(job, folder, journal_offset=end)
        elif ended.outcome == "failed":
            death = Death(ended.message or "it failed", ended.code, deaths, end)
            return await self.replace(job, folder, death)
        else:
            # It was told to stop, by a service that stopped or a caller who has thought again.
            text = f"The training goes on from step {ended.step or job.step}."
            change = to_next_attempt(job, text, Level.INFO, died=False, journal_offset=end)
            await self._store.change(job.id, None, change)
        return 0.0

    async def replace(self, job: Job, folder: JobFolder, death: Death) -> float:
        """Gives a job another worker for one that has died, or gives the job up. Returns how long
        to wait before it is started."""
        if death.deaths > self._max_restarts:
            await self.fail(job, folder, await self._given_up(death))
            return 0.0
        text = f"The worker died ({death.why}); another one takes its place."
        change = to_next_attempt(
            job, text, Level.WARN, died=True, journal_offset=death.journal_offset
        )
        await self._store.change(job.id, None, change)
        return min(self._restart_pause_s * 2 ** (death.deaths - 1), _LONGEST_PAUSE_S)

    async def pause(
        self, job: Job, folder: JobFolder, *, journal_offset: int, attempt: int | None = None
    ) -> None:
        """Pauses a job; with `attempt`, that was the last to begin."""
        # One that is just starting, unseen, is to end as well.
        await tell(folder, Order.PAUSE, must=False)

        def alter(job: Job) -> Job:
            began = job.attempt if attempt is None else min(job.attempt, attempt)
            return replace(job, attempt=began, journal_offset=journal_offset)

        text = f"Paused at step {job.step}."
        change = to_state(job, JobState.PAUSED, text, alter=alter, unless_asked=True)
        await self._store.change(job.id, None, change)

    async def cancel(self, job: Job, folder: JobFolder) -> None:
        """Ends a job that was cancelled."""
        await self._close(job, folder)
        await self._publisher.withdraw(job)
        change = to_state(job, JobState.CANCELLED, "The job was cancelled.")
        await self._store.change(job.id, None, change)

    async def fail(self, job: Job, folder: JobFolder, error: JobError) -> None:
        """Ends a job that can't go on."""
        await self._close(job, folder)
        change = to_state(job, JobState.FAILED, error.message, error=error, unless_asked=True)
        await self._store.change(job.id, None, change)

    async def _succeed(self, job: Job, folder: JobFolder, ended: Ended, end: int) -> None:
        try:
            published = await self._publisher.publish(job)
        except Refused as error:
            text = f"The model was trained, but can't be served: {error.message}"
            await self.fail(job, folder, JobError("deployment_failed", text))
            return
        await self._close(job, folder)

        def alter(job: Job) -> Job:
            step = job.step_count or ended.step
            return replace(
                job,
                journal_offset=end,
                step=step,
                step_count=step,
                trained_token_count=ended.trained_token_count,
                result_files=(published.file_id,) if published.file_id else (),
            )

        more: Sequence[NewEvent] = [NewEvent(Level.WARN, note) for note in published.notes]
        text = f"The job has succeeded. The model can be called as {job.model_id}"
        change = to_state(job, JobState.SUCCEEDED, text, alter=alter, more=more)
        await self._store.change(job.id, None, change)

    async def _close(self, job: Job, folder: JobFolder) -> None:
        """Leaves nothing in the folder that could go on, and no copies of the examples."""
        # One that is just starting, unseen, is to end as well.
        await tell(folder, Order.CANCEL, must=False)
        try:
            await asyncio.to_thread(folder.clear_examples)
        except OSError as error:
            _log.warning("the examples of %s could not be removed: %s", job.id, error)

    async def _given_up(self, death: Death) -> JobError:
        usage = await asyncio.to_thread(shutil.disk_usage, self._root)
        if usage.free < _HARDLY_ANY_BYTES:
            return disk_full()
        if death.code == "out_of_memory":
            return JobError(
                death.code,
                f"The memory did not do for the training, {death.deaths} times in a row. Choose a "
                "smaller batch_size, fewer max_sequence_tokens or LoRA with a smaller rank.",
            )
        return JobError(
            death.code or "worker_died",
            f"The worker died {death.deaths} times in a row, at last: {death.why}. Start the job "
            "again; if that happens again, have the operator look at the log of the job.",
        )


async def tell(folder: JobFolder, order: Order, *, must: bool = True) -> bool:
    """Tells a worker what to do. Where that can't be written, and need not be, gives False."""
    try:
        if await asyncio.to_thread(read_order, folder.order) is not order:
            await asyncio.to_thread(write_order, folder.order, order)
    except OSError as error:
        if must:
            raise
        _log.warning("an order could not be written: %s", error)
        return False
    return True


def disk_full() -> JobError:
    """The error of a job for which there is no room."""
    return JobError(
        "disk_full",
        "There is no room left for the job. Have the operator make room, and start it again.",
    )


def _field(param: str, spec: JobSpec) -> str:
    """The field at fault; a worker does not know where its data is from."""
    field = param.removeprefix("job.")
    if field == "training_data":
        return spec.training.field("training")
    if field == "validation_data":
        return (spec.validation or DataSource()).field("validation")
    return field
