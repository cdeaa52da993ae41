"""Which state of a job may follow which, and what follows from a state."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from services.training.job_records import ENDED, Job, JobState

_NEXT: Final[dict[JobState, frozenset[JobState]]] = {
    JobState.VALIDATING_FILES: frozenset(
        {JobState.QUEUED, JobState.PAUSED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.QUEUED: frozenset(
        {JobState.RUNNING, JobState.PAUSED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.RUNNING: frozenset({JobState.PAUSED, *ENDED}),
    # A paused job waits for a worker again before it runs; one whose files were not read yet goes
    # back to where it was.
    JobState.PAUSED: frozenset(
        {JobState.VALIDATING_FILES, JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def may_follow(before: JobState, after: JobState) -> bool:
    """Tells whether a job may go from one state to another; it may always stay."""
    return before is after or after in _NEXT[before]


def stamped(job: Job, now: datetime) -> Job:
    """Adds what follows from a job's state: that its files are good once it is QUEUED, when it
    first was RUNNING and when it ended, and that what was asked for and has come is not asked for
    any more."""
    has_ended = job.state in ENDED
    met = has_ended or job.requested_state is job.state
    return replace(
        job,
        checked=job.checked or job.state is JobState.QUEUED,
        start_time=now
        if job.start_time is None and job.state is JobState.RUNNING
        else job.start_time,
        end_time=now if job.end_time is None and has_ended else job.end_time,
        estimated_end_time=None if has_ended else job.estimated_end_time,
        requested_state=None if met else job.requested_state,
    )
