"""The jobs of this process, by ID: who may see them, and those that ended a short while ago."""

import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

from services.errors import AlreadyExists
from services.image.events import Progress, State
from services.image.jobs import Job
from services.image.requests import Caller

MOST_ENDED = 256
ENDED_S = 600.0
"""Ended jobs are remembered for so long, as far as there is room."""


@dataclass(frozen=True, slots=True)
class _Ended:
    principal: str
    progress: Progress
    at: float


class Directory:
    """Finds jobs. To be used on one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken: set[str] = set()
        self._jobs: dict[str, Job] = {}
        self._ended: OrderedDict[str, _Ended] = OrderedDict()

    @contextlib.contextmanager
    def taking(self, id: str) -> Generator[str]:
        """Takes an ID for a job, a new one where none is given, until the job ends.

        Raises `AlreadyExists` while a job of that ID waits or runs.
        """
        if id in self._taken:
            raise AlreadyExists(
                f"A job with the ID '{id}' waits or runs. Choose another, or leave it out.",
                field="job_id",
            )
        id = id or f"job-{secrets.token_hex(12)}"
        self._taken.add(id)
        try:
            yield id
        finally:
            self._taken.discard(id)

    @contextlib.contextmanager
    def listing(self, job: Job) -> Generator[None]:
        """Shows a job to who may see it, and remembers it for a while when it has ended."""
        self._jobs[job.id] = job
        try:
            yield
        finally:
            del self._jobs[job.id]
            progress = replace(job.progress(), state=State.FINISHED, remaining_s=0.0, preview=None)
            self._ended.pop(job.id, None)
            self._ended[job.id] = _Ended(job.principal, progress, self._clock())
            self._prune()

    def find(self, id: str, caller: Caller) -> Job | None:
        """The job of this ID, unless it is none that the caller may see."""
        job = self._jobs.get(id)
        return job if job is not None and _may(caller, job.principal) else None

    def progress(self, id: str, caller: Caller) -> Progress | None:
        """How far a job is; an empty ID is the caller's job that has run longest."""
        job = self.find(id, caller) if id else self._longest(caller)
        if job is not None:
            return job.progress()
        self._prune()
        ended = self._ended.get(id)
        return ended.progress if ended and _may(caller, ended.principal) else None

    def named(self, id: str, caller: Caller) -> list[Job]:
        """The job of this ID; an empty one is all of the caller's own that are being drawn."""
        if id:
            job = self.find(id, caller)
            return [] if job is None else [job]
        return [job for job in self._own(caller) if job.state is State.RUNNING]

    def _longest(self, caller: Caller) -> Job | None:
        live = [job for job in self._own(caller) if not job.ended]
        return min(live, key=_age, default=None)

    def _own(self, caller: Caller) -> list[Job]:
        return [job for job in self._jobs.values() if job.principal == caller.principal]

    def _prune(self) -> None:
        oldest = self._clock() - ENDED_S
        while self._ended:
            first = next(iter(self._ended))
            if len(self._ended) <= MOST_ENDED and self._ended[first].at >= oldest:
                return
            del self._ended[first]


def _age(job: Job) -> tuple[float, float]:
    return job.start_time or float("inf"), job.create_time


def _may(caller: Caller, principal: str) -> bool:
    return caller.is_admin or caller.principal == principal
