"""A trainer that runs workers as jobs of a Ray cluster.

The folders of jobs, and the models, lie on file systems that the nodes of the cluster mount at the
same paths as the service. Their locks need not work across machines: at most one worker runs
because

- each start has an ID, which the cluster takes once;
- a submission trains only if its ID stands in the job's folder when its turn comes;
- nothing is started, nor called gone, while Ray may have lost sight of a worker whose heartbeat
  still moves.

The service may end at any time: the next one finds submissions by that file and by their metadata.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.errors import Unavailable
from services.training.folder import JobFolder
from services.training.trainer import Worker, WorkerState
from services.training.trainers.pulse import Pulse
from services.training.trainers.ray_ends import After, End, end_of
from services.training.trainers.ray_entrypoint import (
    WorkerCommand,
    entrypoint,
    log_of,
    wanted_file,
)
from services.training.trainers.ray_jobs import (
    NewSubmission,
    RayCluster,
    RayJobs,
    Status,
    Submission,
)

_log = logging.getLogger(__name__)

_JOB: Final = "penstock_job"
_ATTEMPT: Final = "penstock_attempt"
_MOST_LOG_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RayShare:
    """What a job reserves in the cluster. With nothing at all, Ray runs it on its head node."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RayPatience:
    """How long the trainer waits."""

    begin_s: float = 300.0
    """How long a worker may take from its start to its first heartbeat."""
    quiet_s: float = 30.0
    """How long the heartbeat of a worker that Ray lost must stand still until it counts as gone."""
    stop_s: float = 60.0
    """How long Ray may take to stop a worker, before that is tried anew."""
    poll_s: float = 0.5
    """Pause between questions whether it has."""


class RayTrainer:
    """Implements `services.training.trainer.Trainer`. All methods raise `Unavailable` where the
    cluster doesn't answer, or where it can't be told yet whether a worker lives."""

    def __init__(
        self,
        cluster: RayCluster,
        share: RayShare = RayShare(),
        command: WorkerCommand | None = None,
        patience: RayPatience = RayPatience(),
    ) -> None:
        self._jobs = RayJobs(cluster)
        self._share = share
        self._command = command or WorkerCommand()
        self._patience = patience
        self._pulse = Pulse(patience.quiet_s)
        # Of jobs whose folder doesn't name a submission: so that all are listed only once.
        self._found: dict[str, str] = {}
        self._begun: dict[str, float] = {}

    async def start(self, job_id: str, folder: Path, attempt: int) -> None:
        """Submits a worker, unless one runs or waits for its turn."""
        wanted = await asyncio.to_thread(_read, wanted_file(folder))
        submissions = await self._submissions(job_id)
        if any(_may_train(found, wanted) for found in submissions):
            return
        await self._must_be_gone(folder, submissions)
        taken = {found.submission_id for found in submissions}
        id = base = f"penstock-{job_id}-{attempt}"
        again = 1
        while id in taken:
            again += 1
            id = f"{base}-{again}"
        await asyncio.to_thread(_prepare, folder, id)
        self._pulse.forget(JobFolder(folder).heartbeat)
        self._begun.pop(job_id, None)
        self._found[job_id] = id
        new = NewSubmission(
            submission_id=id,
            entrypoint=entrypoint(self._command, folder, attempt, id),
            metadata={_JOB: job_id, _ATTEMPT: str(attempt)},
            entrypoint_num_cpus=self._share.num_cpus,
            entrypoint_num_gpus=self._share.num_gpus,
            entrypoint_memory=self._share.memory_bytes,
        )
        try:
            await self._jobs.submit(new)
        except Unavailable:
            # The answer may be lost and not the submission.
            if await self._jobs.get(id) is None:
                raise

    async def look(self, job_id: str, folder: Path) -> Worker:
        """Asks Ray, and looks at the heartbeat where Ray doesn't know for certain."""
        heartbeat = JobFolder(folder).heartbeat
        beats = await asyncio.to_thread(self._pulse.beats, heartbeat)
        wanted = await asyncio.to_thread(_read, wanted_file(folder))
        try:
            found = await self._latest(job_id, wanted)
        except Unavailable:
            if beats:
                return Worker(WorkerState.ALIVE)
            raise
        if found is not None and found.status is Status.RUNNING:
            seen = beats or await asyncio.to_thread(heartbeat.exists)
            return Worker(self._running(job_id, seen=seen))
        if found is not None and found.status is Status.PENDING:
            if not _may_train(found, wanted):
                return Worker(WorkerState.GONE, "stopped before it had begun")
            return Worker(WorkerState.STARTING, "waits for room in the Ray cluster")
        end = await self._end(folder, found)
        if end.after is After.NEVER_RAN and found is not None and found.submission_id == wanted:
            # Nothing has died: the cluster is full, and Ray lets nobody wait for long.
            _log.warning("%s found no room in the Ray cluster: it is submitted again", job_id)
            await self.start(job_id, folder, _attempt(found))
            return Worker(WorkerState.STARTING, "waits for room in the Ray cluster")
        if end.after is After.PERHAPS_ALIVE and beats:
            return Worker(WorkerState.ALIVE)
        if found is not None and found.status is Status.FAILED:
            _log.warning("Worker of %s: %s: %s", job_id, end.reason, found.message)
        return Worker(WorkerState.GONE, end.reason, end.out_of_memory)

    async def kill(self, job_id: str, folder: Path) -> None:
        """Has Ray stop the worker, and waits until it has."""
        # First of all: so that what waits for its turn after this never trains.
        await asyncio.to_thread(wanted_file(folder).unlink, missing_ok=True)
        submissions = await self._submissions(job_id)
        left = [found for found in submissions if not found.status.ended]
        try:
            async with asyncio.timeout(self._patience.stop_s):
                while left:
                    left = [found for found in left if await self._stopping(found)]
                    if left:
                        await asyncio.sleep(self._patience.poll_s)
                await self._wait_until_gone(job_id, folder)
        except TimeoutError as error:
            raise Unavailable("Ray has not stopped the worker yet; it is tried again.") from error

    async def close(self) -> None:
        """Closes the connections to the cluster."""
        await self._jobs.close()

    def _running(self, job_id: str, *, seen: bool) -> WorkerState:
        """Tells of a worker that Ray has started whether it has begun. One that doesn't begin in
        time is called alive all the same, so that its silence is noticed."""
        since = self._begun.setdefault(job_id, time.monotonic())
        late = time.monotonic() - since > self._patience.begin_s
        return WorkerState.ALIVE if seen or late else WorkerState.STARTING

    async def _submissions(self, job_id: str) -> list[Submission]:
        """Those of a job, the latest last."""
        everything = await self._jobs.list()
        own = [
            found
            for found in everything
            if found.submission_id is not None and (found.metadata or {}).get(_JOB) == job_id
        ]
        return sorted(own, key=lambda found: found.start_time or 0)

    async def _latest(self, job_id: str, wanted: str) -> Submission | None:
        id = wanted or self._found.get(job_id)
        if id:
            return await self._jobs.get(id)
        submissions = await self._submissions(job_id)
        if not submissions:
            return None
        if submissions[-1].submission_id:
            self._found[job_id] = submissions[-1].submission_id
        return submissions[-1]

    async def _stopping(self, found: Submission) -> bool:
        """Asks for the end of a submission; tells whether there is a worker to wait for."""
        assert found.submission_id is not None
        await self._jobs.stop(found.submission_id)
        now = await self._jobs.get(found.submission_id)
        # One that still waits for its turn won't train when it comes: see `entrypoint`.
        return now is not None and now.status is Status.RUNNING

    async def _wait_until_gone(self, job_id: str, folder: Path) -> None:
        """Waits for the heartbeat of a worker that Ray has lost to stand still."""
        submissions = await self._submissions(job_id)
        while True:
            with contextlib.suppress(Unavailable):
                await self._must_be_gone(folder, submissions)
                return
            await asyncio.sleep(self._patience.poll_s)

    async def _must_be_gone(self, folder: Path, submissions: Sequence[Submission]) -> None:
        """Raises `Unavailable` while a worker may live that Ray has lost."""
        found = submissions[-1] if submissions else None
        if found is not None and found.status is Status.PENDING:
            return
        end = await self._end(folder, found)
        heartbeat = JobFolder(folder).heartbeat
        beats = await asyncio.to_thread(self._pulse.beats, heartbeat)
        if end.after is After.PERHAPS_ALIVE and beats:
            raise Unavailable(
                "Ray lost the worker, and its heartbeat has not stood still for long enough: "
                "it is tried again.",
                retry_after_s=self._patience.quiet_s,
            )

    async def _end(self, folder: Path, found: Submission | None) -> End:
        log = ""
        if found is not None and found.submission_id is not None:
            log = await asyncio.to_thread(log_of, folder, found.submission_id)
        return end_of(found, log=log, processes=self._command.processes)


def _may_train(found: Submission, wanted: str) -> bool:
    """Tells whether a submission trains, or will when its turn comes."""
    if found.status is Status.PENDING:
        return found.submission_id == wanted
    return found.status is Status.RUNNING


def _attempt(found: Submission) -> int:
    return int((found.metadata or {})[_ATTEMPT])


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Unavailable("The training folder can't be read; it is tried again.") from error


def _prepare(folder: Path, submission_id: str) -> None:
    """Lets a submission train. No worker lives: the heartbeat is that of the last one."""
    place = JobFolder(folder)
    place.heartbeat.unlink(missing_ok=True)
    if place.log.exists() and place.log.stat().st_size > _MOST_LOG_BYTES:
        place.log.unlink()
    file = wanted_file(folder)
    new = file.with_suffix(".new")
    new.write_text(submission_id)
    new.replace(file)
