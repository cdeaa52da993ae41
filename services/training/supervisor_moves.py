"""How jobs go from one state to another: with what is told of it, and only from where they were
seen."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from services.training.job_records import (
    Checkpoint,
    Job,
    JobError,
    JobState,
    Level,
    NewEvent,
    StateChange,
)
from services.training.job_store import Change


class Moved(Exception):  # noqa: N818 (reads as what happened)
    """A job is not any more as it was seen: it has to be looked at again."""


_Told = tuple[Job, Sequence[NewEvent], Sequence[Checkpoint]]
_LEVELS = {JobState.FAILED: Level.ERROR, JobState.CANCELLED: Level.WARN}


def to_state(
    seen: Job,
    state: JobState,
    message: str,
    *,
    error: JobError | None = None,
    alter: Callable[[Job], Job] = lambda job: job,
    more: Sequence[NewEvent] = (),
    unless_asked: bool = False,
) -> Change:
    """Returns the change of a job to another state, with `alter` of the rest, and with `more` to be
    told before.

    It fails with `Moved` where the job is not any more as it was seen, and, with `unless_asked`,
    where something is asked for by now that wasn't.
    """

    def change(job: Job) -> _Told:
        _check(job, seen)
        if unless_asked and job.requested_state is not seen.requested_state:
            raise Moved
        told = NewEvent(_LEVELS.get(state, Level.INFO), message, StateChange(job.state, state))
        return (
            alter(replace(job, state=state, requested_state=None, error=error)),
            [*more, told],
            [],
        )

    return change


def to_next_attempt(
    seen: Job, message: str, level: Level, *, died: bool, journal_offset: int
) -> Change:
    """Returns the change of a running job to the next attempt, with another worker."""

    def change(job: Job) -> _Told:
        _check(job, seen)
        job = replace(
            job,
            attempt=job.attempt + 1,
            restart_count=job.restart_count + died,
            journal_offset=journal_offset,
            estimated_end_time=None,
        )
        return job, [NewEvent(level, message)], []

    return change


def to_tell(level: Level, message: str) -> Change:
    """Returns the change of nothing, with something to tell."""
    return lambda job: (job, [NewEvent(level, message)], [])


def _check(job: Job, seen: Job) -> None:
    same = (job.state, job.attempt, job.journal_offset)
    if same != (seen.state, seen.attempt, seen.journal_offset):
        raise Moved
