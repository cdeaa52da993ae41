"""Runs jobs, so that none is lost: validates, starts, watches and publishes them.

One pass after the other looks at all jobs that haven't ended and does for each what is to be done
next. What that is, the store and the job's folder tell, and nothing else: a process that is killed
between any two instructions is followed by one that goes on from there. Of the processes that serve
a folder, one at a time is the supervisor; the others wait for its lock.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from policy.cancelling import heed_cancellation
from services.errors import DomainError, NotFound
from services.training.job_records import ENDED, Job, JobError, JobState
from services.training.job_store import JobStore
from services.training.preparing import Preparer, Unfit
from services.training.supervisor_endings import FULL, disk_full
from services.training.supervisor_lock import sole_supervisor
from services.training.supervisor_moves import to_state
from services.training.supervisor_running import RunningJobs
from services.training.supervisor_troubles import Troubles

_log = logging.getLogger(__name__)
_SOON_S: Final = 0.1
"""Least time between passes."""
_RETRY_S: Final = 5.0
_PREPARED: Final = 2
"""Jobs whose files are read at the same time."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What is done for a job just now."""

    state: JobState
    """In which it is done."""
    task: asyncio.Task[None]


class Supervisor:
    """Runs jobs."""

    def __init__(
        self,
        root: Path,
        store: JobStore,
        preparer: Preparer,
        running: RunningJobs,
        *,
        max_jobs: int = 1,
        interval_s: float = 1.0,
        stop_workers_s: float = 0.0,
    ) -> None:
        """Takes the folder of training, and what does the work.

        `max_jobs` train at a time; jobs are looked at every `interval_s`. When the supervisor is
        told to stop, workers get `stop_workers_s` to write a checkpoint and end; 0: they live on.
        """
        self._root = root
        self._store = store
        self._preparer = preparer
        self._running = running
        self._max_jobs = max_jobs
        self._interval_s = interval_s
        self._stop_workers_s = stop_workers_s
        self._nudged = asyncio.Event()
        self._work: dict[str, _Work] = {}
        self._done: set[str] = set()
        """Jobs that something was done for since all were read: what was read of them is old."""
        self._troubles = Troubles(store)
        self._left: set[str] | None = None
        self._jobs: Sequence[Job] = ()
        self._seen: int | None = None

    def counts(self) -> Counter[JobState]:
        """Jobs that had not ended when all were last looked at, by state. None where another
        process runs them."""
        return Counter(job.state for job in self._jobs)

    def nudge(self) -> None:
        """Has all jobs looked at soon."""
        self._nudged.set()

    async def run(self) -> None:
        """Runs jobs until cancelled, as soon as no other process does."""
        async with sole_supervisor(self._root / "supervisor.lock", self._interval_s):
            _log.info("this process runs the training jobs")
            try:
                await self._passes()
            finally:
                await self._stop()

    async def _passes(self) -> None:
        while True:
            self._nudged.clear()
            try:
                await self._pass()
                wait_s = self._interval_s
            except DomainError as error:
                _log.warning("the training jobs could not be looked at: %s", error.message)
                wait_s = _RETRY_S
            except Exception:
                # What nobody thought of must not end the loop.
                _log.exception("the training jobs could not be looked at")
                wait_s = _RETRY_S
            await asyncio.sleep(_SOON_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._nudged.wait()
            heed_cancellation()

    async def _pass(self) -> None:
        stamp = await self._store.stamp()
        if not self._jobs and not self._work and stamp is not None and stamp == self._seen:
            return
        self._done.clear()
        jobs = self._jobs = await self._store.unended()
        await self._drop({job.id: job for job in jobs})
        running = [job for job in jobs if job.state is JobState.RUNNING]
        free = self._max_jobs - sum(map(self._running.takes_place, running))
        for job in jobs:
            if job.id in self._work or job.id in self._done or self._troubles.has(job):
                continue
            match job.state:
                case JobState.VALIDATING_FILES if self._preparing < _PREPARED:
                    self._begin(job, self._prepare)
                case JobState.QUEUED if free > 0:
                    free -= await self._troubles.tried(job, self._launch(job))
                case JobState.RUNNING:
                    self._begin(job, self._running.advance)
                case _:
                    pass
        self._seen = stamp

    @property
    def _preparing(self) -> int:
        return sum(work.state is not JobState.RUNNING for work in self._work.values())

    async def _drop(self, jobs: Mapping[str, Job]) -> None:
        """Lets go of what is of no use any more: a caller may have paused or cancelled a job while
        it waited or its files were read."""
        for id, work in self._work.items():
            job = jobs.get(id)
            if work.state is not JobState.RUNNING and (job is None or job.state is not work.state):
                work.task.cancel()
        self._troubles.keep_only(jobs)
        self._running.keep_only(jobs)
        if self._left is None:
            self._left = await self._preparer.with_examples()
        gone = self._left - jobs.keys()
        for id in gone - self._work.keys():
            await self._clear(id)
        self._left = gone & self._work.keys() | jobs.keys()

    async def _clear(self, id: str) -> None:
        """Clears up after a job that has ended without a worker."""
        try:
            if (await self._store.job(id, None)).state in ENDED:
                await self._preparer.clear(id)
        except (NotFound, OSError) as error:
            _log.warning("the examples of %s are left where they are: %s", id, error)

    def _begin(self, job: Job, work: Callable[[Job], Coroutine[Any, Any, bool]]) -> None:
        """Does something for a job, while others are looked at."""

        async def done() -> None:
            if await self._troubles.tried(job, work(job)):
                self.nudge()

        def ended(task: asyncio.Task[None]) -> None:
            del self._work[job.id]
            self._done.add(job.id)
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("%s could not be seen to", job.id, exc_info=error)

        task = asyncio.create_task(done())
        self._work[job.id] = _Work(job.state, task)
        task.add_done_callback(ended)

    async def _prepare(self, job: Job) -> bool:
        """Sees to it that a job has a plan, and lets it wait for a worker."""
        found = "The files are good."
        try:
            if not await self._preparer.is_prepared(job):
                found = await self._preparer.prepare(job)
        except Unfit as unfit:
            await self._fail(job, unfit.error)
            return True
        except OSError as error:
            if error.errno not in FULL:
                raise
            _log.error("there is no room left to prepare a job", exc_info=error)
            await self._fail(job, disk_full())
            return True
        if job.state is JobState.VALIDATING_FILES:
            text = f"{found} The job waits for a worker."
            await self._store.change(job.id, None, to_state(job, JobState.QUEUED, text))
        return True

    async def _fail(self, job: Job, error: JobError) -> None:
        await self._preparer.clear(job.id)
        change = to_state(job, JobState.FAILED, error.message, error=error)
        await self._store.change(job.id, None, change)

    async def _launch(self, job: Job) -> bool:
        """Gives a job its turn. Its worker is started by the next look at it."""
        if not await self._preparer.is_prepared(job):
            if self._preparing < _PREPARED:
                self._begin(job, self._prepare)
            return False
        change = to_state(
            job,
            JobState.RUNNING,
            "The job runs." if job.attempt == 0 else "The job runs again.",
            alter=lambda job: replace(job, attempt=job.attempt + 1),
        )
        await self._store.change(job.id, None, change)
        self.nudge()
        return True

    async def _stop(self) -> None:
        """Leaves everything as it is; another process goes on."""
        for work in self._work.values():
            work.task.cancel()
        await asyncio.gather(*(work.task for work in self._work.values()), return_exceptions=True)
        if self._stop_workers_s:
            await self._stop_workers([job for job in self._jobs if job.state is JobState.RUNNING])

    async def _stop_workers(self, jobs: Sequence[Job]) -> None:
        end = time.monotonic() + self._stop_workers_s
        for job in jobs:
            await self._running.let_go(job)
        while jobs and time.monotonic() < end:
            await asyncio.sleep(_SOON_S)
            jobs = [job for job in jobs if await self._lives(job)]

    async def _lives(self, job: Job) -> bool:
        try:
            return not await self._running.is_gone(job)
        except (DomainError, OSError) as error:
            _log.warning("the worker of %s can't be looked for: %s", job.id, error)
            return False
