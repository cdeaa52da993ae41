"""The store port of jobs: jobs, what happened to them, and their checkpoints.

`sees` is the owner whose jobs a caller sees; None for everybody's. Jobs and files share a database,
and a file that a job needs can't be removed: `FileStore.remove` raises `FailedPrecondition` while
a job that hasn't ended names it, in the transaction that removes; nor does it expire till then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.training.job_records import Checkpoint, Job, JobEvent, JobSpec, JobState, NewEvent
from services.training.records import Page

Change = Callable[[Job], tuple[Job, Sequence[NewEvent], Sequence[Checkpoint]]]
"""Makes of a job as it is the job as it is to be, with what is to be told and new checkpoints. It
may raise a domain error: then nothing changes. It may run more than once."""


@dataclass(frozen=True, slots=True)
class Look:
    """A job and what happened to it, as they were at one instant."""

    job: Job
    revision: int
    """Grows with every change of the job and every event."""
    events: Sequence[JobEvent]
    """Oldest first."""
    last_number: int
    """Number of the job's last event, whether or not it is among them."""


class JobStore(Protocol):
    """Keeps jobs. Safe to use from several processes at once."""

    async def create(
        self,
        job: Job,
        *,
        request_id: str = "",
        asked: JobSpec | None = None,
        any_file: bool = False,
        most_unended: int = 0,
    ) -> Job:
        """Keeps a new job, and its first event. Where the same non-empty `request_id` of its owner
        made a job of an equal request before, that is returned.

        Args:
            job: to be kept.
            request_id: makes it one job, however often it comes.
            asked: what the caller asked for, before anything was chosen: requests are compared by
                it. None: the job's spec.
            any_file: whether it may name files of others.
            most_unended: jobs that may wait and run. 0: any number.

        Raises:
            AlreadyExists: the request ID made another job.
            NotFound: a file of the spec is not there (any more) for the owner; names the field.
            InvalidArgument: a file is not for training.
            QueueFull: `most_unended` others haven't ended.
        """
        ...

    async def made_by(self, owner: str, request_id: str, asked: JobSpec) -> Job | None:
        """Returns the job that a request ID made. Raises `AlreadyExists` where it made another."""
        ...

    async def job(self, id: str, sees: str | None) -> Job:
        """Gets one. Raises `NotFound`."""
        ...

    async def jobs(self, sees: str | None, states: Sequence[JobState], page: Page) -> Sequence[Job]:
        """Lists them by time of creation. Raises `InvalidArgument` as `FileStore.files` does."""
        ...

    async def change(self, id: str, sees: str | None, change: Change) -> Job:
        """Changes a job in one transaction: reads, applies, checks the state's transition, keeps
        job, events and checkpoints, and what follows from the state (see
        `services.training.transitions.stamped`). A checkpoint of a step that has one is not kept
        again, nor is the event that tells of it. Raises `NotFound`, what `change` raises, and
        `ValueError` for a transition that is not allowed, or a change of what can't change: ID,
        owner, spec, result's ID, time of creation.
        """
        ...

    async def stamp(self) -> int | None:
        """Returns a number that is another once anything was committed; None where nobody can
        tell. It costs next to nothing."""
        ...

    async def unended(self) -> Sequence[Job]:
        """All jobs that haven't ended, in the order in which they get workers: by priority, then
        first come, first served."""
        ...

    async def look(self, id: str, sees: str | None, *, after_number: int, most: int) -> Look:
        """Reads a job with at most so many events after a number. Raises `NotFound`."""
        ...

    async def revisions(self, ids: Sequence[str]) -> Mapping[str, int]:
        """Returns the revisions of jobs, to tell which ones have changed."""
        ...

    async def events(
        self, job_id: str, sees: str | None, page: Page, *, after_number: int | None = None
    ) -> Sequence[JobEvent]:
        """Lists events by number: newest first where `page.descending`, with `page.after` the ID of
        an event; or, with `after_number`, the ones after that, oldest first. Raises `NotFound`."""
        ...

    async def event(self, job_id: str, sees: str | None, event_id: str) -> JobEvent:
        """Gets one. Raises `NotFound`."""
        ...

    async def checkpoints(self, job_id: str, sees: str | None, page: Page) -> Sequence[Checkpoint]:
        """Lists checkpoints by time of creation. Raises `NotFound`."""
        ...

    async def drop_checkpoint(self, job_id: str, step: int) -> None:
        """Forgets a checkpoint, if there is one."""
        ...

    def listen(self, listener: Callable[[str], None]) -> None:
        """Has the listener called with the ID of each job that this store has created or changed,
        as soon as others can see it."""
        ...
