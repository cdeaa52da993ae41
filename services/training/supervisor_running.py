"""Sees running jobs through: starts their workers, watches them, and sees to what follows.

Every look begins with the store and the folder. What is kept in memory only tells how long
something has lasted, and may be lost.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Container
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.training.folder import JobFolder, Order, job_folder
from services.training.job_records import Job, JobState
from services.training.job_store import JobStore
from services.training.journal import last_beat
from services.training.publishing import Publisher
from services.training.supervisor_endings import FULL, Death, Endings, disk_full, tell
from services.training.supervisor_ledger import Ledger
from services.training.trainer import Trainer, Worker, WorkerState

_log = logging.getLogger(__name__)
_ORDERS: Final = {
    None: Order.RUN,
    JobState.PAUSED: Order.PAUSE,
    JobState.CANCELLED: Order.CANCEL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often and how long things are tried."""

    max_restarts: int = 3
    """Workers in a row that may die and be replaced, without a new checkpoint in between."""
    restart_pause_s: float = 1.0
    """Time before the first is replaced; it doubles with each."""
    heartbeat_timeout_s: float = 60.0
    """A worker that is silent for longer is ended."""
    cancel_s: float = 30.0
    """A worker that doesn't end within this time of being told to cancel is ended."""
    exit_s: float = 15.0
    """So is one that has written its end, and is still there."""


@dataclass(slots=True)
class _Memory:
    """What the process remembers of a job."""

    started: int = 0
    """Attempt that it has started a worker for."""
    start_after: float = 0.0
    beat: float | None = None
    beat_since: float | None = None
    """When the beat was first seen."""
    cancel_since: float | None = None
    ended_since: float | None = None
    killed_for: str = ""
    """Why it has ended the worker."""
    is_trained: bool = False
    """Whether all that is left is to publish what came of it."""


class RunningJobs:
    """Sees running jobs through."""

    def __init__(
        self,
        root: Path,
        store: JobStore,
        trainer: Trainer,
        publisher: Publisher,
        patience: Patience,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._trainer = trainer
        self._patience = patience
        self._clock = clock
        self._ledger = Ledger(root, store)
        self._endings = Endings(
            root,
            store,
            publisher,
            max_restarts=patience.max_restarts,
            restart_pause_s=patience.restart_pause_s,
        )
        self._memories: dict[str, _Memory] = {}

    def keep_only(self, ids: Container[str]) -> None:
        """Lets go of what is kept in memory of other jobs."""
        self._memories = {id: one for id, one in self._memories.items() if id in ids}
        self._ledger.keep_only(ids)

    def takes_place(self, job: Job) -> bool:
        """Whether a running job keeps others from running. One that is only to be published doesn't
        any more: a catalogue that is away stops no training."""
        memory = self._memories.get(job.id)
        return memory is None or not memory.is_trained

    async def advance(self, job: Job) -> bool:
        """Does what is to be done for a running job now. Tells whether more is to be done soon."""
        folder = job_folder(self._root, job.id)
        try:
            return await self._advance(job, folder)
        except OSError as error:
            if job.requested_state is not JobState.CANCELLED:
                raise
            # What is left of such a folder need not be understood to give it up.
            _log.warning("the folder of %s is broken, and it is cancelled: %s", job.id, error)
            with suppress(OSError):
                await self._trainer.kill(job.id, folder.path)
            await self._endings.cancel(job, folder)
            return True

    async def let_go(self, job: Job) -> None:
        """Has the worker of a job write a checkpoint and end, for a while: the job stays running,
        and goes on when a service looks again."""
        order = _ORDERS[job.requested_state or JobState.PAUSED]
        await tell(job_folder(self._root, job.id), order, must=False)

    async def is_gone(self, job: Job) -> bool:
        """Whether a job has no worker."""
        worker = await self._trainer.look(job.id, job_folder(self._root, job.id).path)
        return worker.state is WorkerState.GONE

    async def _advance(self, job: Job, folder: JobFolder) -> bool:
        memory = self._memories.setdefault(job.id, _Memory())
        # In this order: all that a worker wrote that is gone now is in the journal.
        worker = await self._trainer.look(job.id, folder.path)
        job, ended, end = await self._ledger.catch_up(job)
        if ended is None:
            if worker.state is WorkerState.GONE:
                return await self._go_on(job, folder, memory, worker)
            return await self._watch(job, folder, memory, worker)
        if worker.state is not WorkerState.GONE:
            await self._see_out(job, folder, memory)
            return True
        memory.is_trained = ended.outcome == "succeeded"
        deaths = self._ledger.marks(job).deaths(job.attempt)
        pause_s = await self._endings.conclude(job, folder, ended, end, deaths)
        self._begin_anew(job, pause_s)
        return True

    async def _watch(self, job: Job, folder: JobFolder, memory: _Memory, worker: Worker) -> bool:
        now = self._clock()
        order = _ORDERS[job.requested_state]
        if worker.state is WorkerState.STARTING and order is not Order.RUN:
            # It may not begin for long, where it waits for a place.
            await self._kill(job, folder, memory, "it was not needed any more")
            return True
        told = await tell(folder, order, must=order is not Order.CANCEL)
        if order is Order.CANCEL:
            if memory.cancel_since is None:
                memory.cancel_since = now
            if not told or now - memory.cancel_since > self._patience.cancel_s:
                await self._kill(job, folder, memory, "it was cancelled")
            return True
        if worker.state is WorkerState.STARTING:
            memory.beat_since = None
            return False
        beat = await asyncio.to_thread(last_beat, folder.heartbeat)
        if beat != memory.beat or memory.beat_since is None:
            memory.beat, memory.beat_since = beat, now
        elif now - memory.beat_since > self._patience.heartbeat_timeout_s:
            silence = f"it was silent for {self._patience.heartbeat_timeout_s:g} s"
            await self._kill(job, folder, memory, silence)
            return True
        return order is not Order.RUN

    async def _go_on(self, job: Job, folder: JobFolder, memory: _Memory, worker: Worker) -> bool:
        """Does what follows where there is no worker, and none has written its end."""
        marks = self._ledger.marks(job)
        if job.requested_state is JobState.CANCELLED:
            await self._endings.cancel(job, folder)
        elif job.requested_state is JobState.PAUSED:
            offset, attempt = job.journal_offset, marks.attempt
            await self._endings.pause(job, folder, journal_offset=offset, attempt=attempt)
            self._begin_anew(job)
        elif job.attempt in (memory.started, marks.attempt):
            why = memory.killed_for or worker.reason or "nothing is known of why"
            code = "out_of_memory" if worker.out_of_memory else ""
            death = Death(why, code, marks.deaths(job.attempt), job.journal_offset)
            pause_s = await self._endings.replace(job, folder, death)
            self._begin_anew(job, pause_s)
        elif self._clock() < memory.start_after:
            return False
        else:
            await self._start(job, folder)
        return True

    async def _start(self, job: Job, folder: JobFolder) -> None:
        try:
            await tell(folder, Order.RUN)
            await self._trainer.start(job.id, folder.path, job.attempt)
        except OSError as error:
            if error.errno not in FULL:
                raise
            await self._endings.fail(job, folder, disk_full())
            return
        self._memories[job.id] = _Memory(started=job.attempt)

    def _begin_anew(self, job: Job, pause_s: float = 0.0) -> None:
        self._memories[job.id] = _Memory(start_after=self._clock() + pause_s)

    async def _see_out(self, job: Job, folder: JobFolder, memory: _Memory) -> None:
        """Waits for a worker to go that has written its end."""
        now = self._clock()
        if memory.ended_since is None:
            memory.ended_since = now
        elif now - memory.ended_since > self._patience.exit_s:
            await self._kill(job, folder, memory, "it did not exit")

    async def _kill(self, job: Job, folder: JobFolder, memory: _Memory, why: str) -> None:
        _log.info("the worker of %s is ended: %s", job.id, why)
        memory.killed_for = memory.killed_for or why
        await self._trainer.kill(job.id, folder.path)
