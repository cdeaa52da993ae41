"""Jobs: started, looked at, cancelled, paused and resumed by those who own them.

Nothing here touches a worker: what callers want is written down, and the supervisor does it.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.errors import FailedPrecondition
from services.page_tokens import Place
from services.training.base_models import BaseModels
from services.training.clock import utc_now
from services.training.job_checks import check_base, check_request
from services.training.job_names import new_job_id, result_id
from services.training.job_records import (
    ENDED,
    Checkpoint,
    Job,
    JobEvent,
    JobSpec,
    JobState,
    Level,
    NewEvent,
    StateChange,
)
from services.training.job_store import JobStore
from services.training.paging import Asked, Listing, listed
from services.training.records import Caller

_PAGE_SIZE = 20
_CHECKPOINT_PAGE_SIZE = 10
_MAX_PAGE_SIZE = 1000
_SEEDS = 2**31

_Step = tuple[Job, Sequence[NewEvent]]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """What may be asked for."""

    organisation: str = "local"
    """Part of the results' IDs."""
    datasets: Mapping[str, object] = field(default_factory=dict[str, object])
    """Datasets that the configuration has, by name."""
    max_queued_jobs: int = 1000
    """Most jobs that haven't ended, of all owners."""


class Jobs:
    """Keeps jobs."""

    def __init__(
        self,
        store: JobStore,
        bases: BaseModels,
        limits: JobLimits,
        *,
        nudge: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Takes the means. `nudge` tells the supervisor that there is something to do."""
        self._store = store
        self._bases = bases
        self._limits = limits
        self._nudge = nudge
        self._clock = clock

    async def start(self, spec: JobSpec, request_id: str, caller: Caller) -> Job:
        """Starts a job. The same non-empty `request_id` again returns what it started.

        Raises:
            InvalidArgument, MissingField: a field's value makes no sense.
            UnsupportedParameter: the base model can't be trained so.
            ModelNotFound: there is no such base model.
            NotFound: a file or dataset is not there.
            PermissionDenied: the caller may not ask for that.
            AlreadyExists: the request ID started another job.
            QueueFull: too many jobs wait.
            Unavailable: the catalogue does not answer.
        """
        check_request(spec, request_id, caller, self._limits.datasets)
        if request_id:
            known = await self._store.made_by(caller.id, request_id, spec)
            if known is not None:
                return known
        base = await self._bases.find(spec.base_model)
        check_base(spec, base)
        now = self._clock()
        seed = secrets.randbelow(_SEEDS) if spec.seed is None else spec.seed
        job = Job(
            id=new_job_id(),
            owner=caller.id,
            spec=replace(spec, base_model=base.id, seed=seed),
            state=JobState.VALIDATING_FILES,
            model_id=result_id(base.id, self._limits.organisation, spec.suffix),
            create_time=now,
            update_time=now,
        )
        kept = await self._store.create(
            job,
            request_id=request_id,
            asked=spec,
            any_file=caller.is_admin,
            most_unended=self._limits.max_queued_jobs,
        )
        self._nudge()
        return kept

    async def get(self, id: str, caller: Caller) -> Job:
        """Gets a job. Raises `NotFound`."""
        return await self._store.job(id, caller.sees)

    async def list(self, asked: Asked, states: Sequence[JobState], caller: Caller) -> Listing[Job]:
        """Lists the jobs that a caller sees, newest first."""
        query = ["jobs", *sorted(set(states)), caller.sees or "*"]
        return await listed(
            asked,
            query,
            lambda page: self._store.jobs(caller.sees, states, page),
            lambda job: Place(job.id, job.create_time),
            default_size=_PAGE_SIZE,
            most=_MAX_PAGE_SIZE,
        )

    async def cancel(self, id: str, caller: Caller) -> Job:
        """Cancels a job. Raises `NotFound`, and `FailedPrecondition` for one that has SUCCEEDED or
        FAILED."""
        return await self._ask(id, caller, _cancelled)

    async def pause(self, id: str, caller: Caller) -> Job:
        """Pauses a job. Raises `NotFound`, and `FailedPrecondition` for one that has ended."""
        return await self._ask(id, caller, _paused)

    async def resume(self, id: str, caller: Caller) -> Job:
        """Lets a paused job go on. Raises `NotFound`, and `FailedPrecondition` for one that has
        ended."""
        return await self._ask(id, caller, _resumed)

    async def events(self, id: str, asked: Asked, caller: Caller) -> Listing[JobEvent]:
        """Lists what happened to a job, newest first. Raises `NotFound`."""
        return await listed(
            asked,
            ["events", id],
            lambda page: self._store.events(id, caller.sees, page),
            lambda event: Place(event.id),
            default_size=_PAGE_SIZE,
            most=_MAX_PAGE_SIZE,
        )

    async def checkpoints(self, id: str, asked: Asked, caller: Caller) -> Listing[Checkpoint]:
        """Lists a job's checkpoints, newest first. Raises `NotFound`."""
        return await listed(
            asked,
            ["checkpoints", id],
            lambda page: self._store.checkpoints(id, caller.sees, page),
            lambda checkpoint: Place(checkpoint.id, checkpoint.create_time),
            default_size=_CHECKPOINT_PAGE_SIZE,
            most=_MAX_PAGE_SIZE,
        )

    async def _ask(self, id: str, caller: Caller, step: Callable[[Job], _Step]) -> Job:
        job = await self._store.change(id, caller.sees, lambda job: (*step(job), ()))
        self._nudge()
        return job


def _cancelled(job: Job) -> _Step:
    if job.state is JobState.CANCELLED:
        return job, ()
    _check_unended(job, "cancelled")
    if job.state is JobState.RUNNING:
        return _requested(job, JobState.CANCELLED, "Cancelling was asked for.")
    return _moved(job, JobState.CANCELLED, "Cancelled.")


def _paused(job: Job) -> _Step:
    if job.state is JobState.PAUSED:
        return job, ()
    _check_unended(job, "paused")
    if job.state is JobState.RUNNING:
        _check_wanted(job, "paused")
        return _requested(job, JobState.PAUSED, "A pause was asked for.")
    return _moved(job, JobState.PAUSED, "Paused.")


def _resumed(job: Job) -> _Step:
    _check_unended(job, "resumed")
    _check_wanted(job, "resumed")
    if job.state is JobState.PAUSED:
        after = JobState.QUEUED if job.checked else JobState.VALIDATING_FILES
        return _moved(job, after, "Resumed.")
    if job.requested_state is None:
        return job, ()
    told = NewEvent(Level.INFO, "The pause is not wanted any more.")
    return replace(job, requested_state=None), (told,)


def _requested(job: Job, state: JobState, words: str) -> _Step:
    if job.requested_state is state:
        return job, ()
    return replace(job, requested_state=state), (NewEvent(Level.INFO, words),)


def _moved(job: Job, state: JobState, words: str) -> _Step:
    moved = replace(job, state=state, requested_state=None)
    return moved, (NewEvent(Level.INFO, words, StateChange(job.state, state)),)


def _check_unended(job: Job, done: str) -> None:
    if job.state in ENDED:
        raise FailedPrecondition(
            f"The job has ended ({job.state.value}), so it can't be {done}. Start a new one."
        )


def _check_wanted(job: Job, done: str) -> None:
    if job.requested_state is JobState.CANCELLED:
        raise FailedPrecondition(
            f"The job is being cancelled, so it can't be {done}. Start a new one."
        )
