"""Jobs, in SQL."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import AlreadyExists, InvalidArgument, NotFound, QueueFull
from services.sql.database import Database
from services.sql.shield import Shield
from services.training.job_records import (
    Checkpoint,
    CheckpointWritten,
    DataSource,
    Job,
    JobSpec,
    JobState,
    Level,
    NewEvent,
    StateChange,
)
from services.training.job_store import Change
from services.training.names import no_file
from services.training.records import Page, Purpose
from services.training.stores.history import History, add_events, job_row_of
from services.training.stores.job_rows import checkpoint_row, job_row, request_hash, to_job
from services.training.stores.pages import paged
from services.training.stores.sight import UNENDED, seen_files, seen_jobs
from services.training.stores.tables import CHECKPOINTS, FILES, JOBS
from services.training.transitions import may_follow, stamped

_log = logging.getLogger(__name__)
_C = JOBS.c
_STARTS = 0x70656E737453746A
"""Any constant: names the lock that those who start jobs take turns on."""


class SqlJobs:
    """Keeps jobs in SQLite or Postgres; see `services.training.job_store`."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._shield = Shield()
        self._listeners: list[Callable[[str], None]] = []
        history = History(database)
        whole = self._shield.around
        self.stamp = database.stamp
        self.create = whole(self._create)
        self.made_by = whole(self._made_by)
        self.job = whole(self._job)
        self.jobs = whole(self._jobs)
        self.change = whole(self._change)
        self.unended = whole(self._unended)
        self.look = whole(history.look)
        self.revisions = whole(self._revisions)
        self.events = whole(history.events)
        self.event = whole(history.event)
        self.checkpoints = whole(history.checkpoints)
        self.drop_checkpoint = whole(self._drop_checkpoint)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Has the listener called with the ID of each job that is created or changed."""
        self._listeners.append(listener)

    async def finish(self) -> None:
        """Waits for what still runs."""
        await self._shield.finish()

    async def _create(
        self,
        job: Job,
        *,
        request_id: str = "",
        asked: JobSpec | None = None,
        any_file: bool = False,
        most_unended: int = 0,
    ) -> Job:
        asked = asked or job.spec
        job = stamped(job, job.create_time)
        async with self._database.writing() as connection:
            if self._database.postgres:
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _STARTS}
                )
            if request_id:
                known = await self._requested(connection, job.owner, request_id, asked)
                if known is not None:
                    return known
            if most_unended:
                await self._check_room(connection, most_unended)
            sees = None if any_file else job.owner
            await self._check_file(connection, job.spec.training, sees, "job.training_file")
            await self._check_file(connection, job.spec.validation, sees, "job.validation_file")
            row = job_row(job) | {
                "request_id": request_id or None,
                "request_hash": request_hash(asked),
                "event_count": 1,
                "revision": 1,
            }
            await connection.execute(insert(JOBS).values(row))
            born = NewEvent(Level.INFO, f"Created the job {job.id}.", StateChange(None, job.state))
            await add_events(connection, job.id, 0, [born], job.create_time)
        self._tell(job.id)
        return job

    async def _made_by(self, owner: str, request_id: str, asked: JobSpec) -> Job | None:
        async with self._database.reading() as connection:
            return await self._requested(connection, owner, request_id, asked)

    async def _job(self, id: str, sees: str | None) -> Job:
        async with self._database.reading() as connection:
            return to_job(await job_row_of(connection, id, sees))

    async def _jobs(
        self, sees: str | None, states: Sequence[JobState], page: Page
    ) -> Sequence[Job]:
        seen = seen_jobs(sees)
        query = select(JOBS).where(seen)
        if states:
            query = query.where(_C.state.in_(sorted({state.value for state in states})))
        async with self._database.reading() as connection:
            query = await paged(connection, query, JOBS, page, seen=seen, noun="job")
            return [to_job(row) for row in (await connection.execute(query)).mappings()]

    async def _change(self, id: str, sees: str | None, change: Change) -> Job:
        async with self._database.writing() as connection:
            row = await job_row_of(connection, id, sees, lock=True)
            before = to_job(row)
            wanted, events, checkpoints = change(before)
            _check(before, wanted)
            now = self._clock()
            after = stamped(replace(wanted, update_time=before.update_time), now)
            checkpoints, twice = await _fresh(connection, before.id, checkpoints)
            events = [event for event in events if not _tells_of(event, twice)]
            if after == before and not events and not checkpoints:
                return before
            after = replace(after, update_time=max(now, before.update_time))
            count, revision = row["event_count"] + len(events), row["revision"] + 1
            values = job_row(after) | {"event_count": count, "revision": revision}
            await connection.execute(update(JOBS).where(_C.id == id).values(values))
            await add_events(connection, id, row["event_count"], events, now)
            if checkpoints:
                rows = [checkpoint_row(checkpoint) for checkpoint in checkpoints]
                await connection.execute(insert(CHECKPOINTS), rows)
        self._tell(id)
        return after

    async def _unended(self) -> Sequence[Job]:
        query = select(JOBS).where(UNENDED).order_by(_C.priority.desc(), _C.create_time, _C.id)
        async with self._database.reading() as connection:
            return [to_job(row) for row in (await connection.execute(query)).mappings()]

    async def _revisions(self, ids: Sequence[str]) -> Mapping[str, int]:
        query = select(_C.id, _C.revision).where(_C.id.in_(ids))
        async with self._database.reading() as connection:
            return {row.id: row.revision for row in await connection.execute(query)}

    async def _drop_checkpoint(self, job_id: str, step: int) -> None:
        same: list[ColumnElement[bool]] = [
            CHECKPOINTS.c.job == job_id,
            CHECKPOINTS.c.step == step,
        ]
        async with self._database.writing() as connection:
            await connection.execute(delete(CHECKPOINTS).where(*same))

    async def _requested(
        self, connection: AsyncConnection, owner: str, request_id: str, asked: JobSpec
    ) -> Job | None:
        query = select(JOBS).where(_C.owner == owner, _C.request_id == request_id)
        row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            return None
        if row["request_hash"] != request_hash(asked):
            raise AlreadyExists(
                "This request ID started another job before. Choose another ID for another job.",
                field="request_id",
            )
        return to_job(row)

    async def _check_room(self, connection: AsyncConnection, most: int) -> None:
        query = select(func.count()).select_from(JOBS).where(UNENDED)
        if (await connection.execute(query)).scalar_one() >= most:
            raise QueueFull(
                f"{most} jobs wait and run already. Try again when one of them has ended.",
                retry_after_s=60,
            )

    async def _check_file(
        self, connection: AsyncConnection, source: DataSource | None, sees: str | None, field: str
    ) -> None:
        """Checks that a file is there, and keeps it there till the transaction ends."""
        if source is None or not source.file_id:
            return
        query = select(FILES.c.purpose).where(
            FILES.c.id == source.file_id, seen_files(sees, self._clock())
        )
        found = await connection.scalar(query.with_for_update(read=True))
        if found is None:
            raise NotFound(no_file(source.file_id).message, field=field)
        if found != Purpose.FINE_TUNE.value:
            raise InvalidArgument(
                f"'{field}': this file was uploaded for {found!r}. Upload it again with the "
                f"purpose {Purpose.FINE_TUNE.value!r}.",
                field=field,
            )

    def _tell(self, id: str) -> None:
        for listener in self._listeners:
            try:
                listener(id)
            except Exception:
                # The change is made: what somebody makes of it doesn't undo it.
                _log.exception("somebody who listens for changes of jobs failed")


def _check(before: Job, after: Job) -> None:
    for name in ("id", "owner", "spec", "model_id", "create_time"):
        if getattr(before, name) != getattr(after, name):
            raise ValueError(f"{name} of a job can't change")
    if not may_follow(before.state, after.state):
        raise ValueError(f"{after.state.value} can't follow {before.state.value}")


async def _fresh(
    connection: AsyncConnection, job_id: str, checkpoints: Sequence[Checkpoint]
) -> tuple[list[Checkpoint], set[str]]:
    """Parts checkpoints into those that are new, and the IDs of those whose step has one."""
    if not checkpoints:
        return [], set()
    c = CHECKPOINTS.c
    first = min(checkpoint.step for checkpoint in checkpoints)
    query = select(c.step).where(c.job == job_id, c.step >= first)
    steps = set((await connection.execute(query)).scalars())
    fresh: list[Checkpoint] = []
    twice = set[str]()
    for checkpoint in checkpoints:
        if checkpoint.job_id != job_id:
            raise ValueError("a checkpoint of another job can't be kept")
        if checkpoint.step in steps:
            twice.add(checkpoint.id)
        else:
            steps.add(checkpoint.step)
            fresh.append(checkpoint)
    return fresh, twice - {checkpoint.id for checkpoint in fresh}


def _tells_of(event: NewEvent, ids: set[str]) -> bool:
    return isinstance(event.detail, CheckpointWritten) and event.detail.checkpoint_id in ids
