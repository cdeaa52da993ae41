"""What happened to jobs, and their checkpoints, in SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, Select, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import NotFound
from services.sql.database import Database
from services.training.job_names import new_event_id, no_job
from services.training.job_records import Checkpoint, JobEvent, NewEvent
from services.training.job_store import Look
from services.training.records import Page
from services.training.stores.job_rows import event_row, to_checkpoint, to_event, to_job
from services.training.stores.pages import paged, unknown_place
from services.training.stores.sight import seen_jobs
from services.training.stores.tables import CHECKPOINTS, EVENTS, JOBS

_C = EVENTS.c


class History:
    """Reads what happened; part of `SqlJobs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, id: str, sees: str | None, *, after_number: int, most: int) -> Look:
        """Reads a job with its events after a number."""
        query = select(EVENTS).where(_C.job == id, _C.number > after_number)
        async with self._database.reading() as connection:
            row = await job_row_of(connection, id, sees)
            found = row["event_count"] > after_number
            events = (
                await _events(connection, query.order_by(_C.number).limit(most)) if found else []
            )
        return Look(to_job(row), row["revision"], events, row["event_count"])

    async def events(
        self, job_id: str, sees: str | None, page: Page, *, after_number: int | None = None
    ) -> Sequence[JobEvent]:
        """Lists events by number."""
        query = select(EVENTS).where(_C.job == job_id).limit(page.size)
        async with self._database.reading() as connection:
            await job_row_of(connection, job_id, sees)
            if after_number is not None:
                query = query.where(_C.number > after_number).order_by(_C.number)
                return await _events(connection, query)
            if page.after:
                place = select(_C.number).where(_C.job == job_id, _C.id == page.after)
                number = await connection.scalar(place)
                if number is None:
                    raise unknown_place(page, "event")
                query = query.where(_C.number < number if page.descending else _C.number > number)
            query = query.order_by(_C.number.desc() if page.descending else _C.number)
            return await _events(connection, query)

    async def event(self, job_id: str, sees: str | None, event_id: str) -> JobEvent:
        """Gets an event."""
        query = select(EVENTS).where(_C.job == job_id, _C.id == event_id)
        async with self._database.reading() as connection:
            await job_row_of(connection, job_id, sees)
            found = await _events(connection, query)
        if not found:
            raise NotFound(f"The job {job_id} has no event {event_id[:80]!r}.")
        return found[0]

    async def checkpoints(self, job_id: str, sees: str | None, page: Page) -> Sequence[Checkpoint]:
        """Lists checkpoints."""
        seen = CHECKPOINTS.c.job == job_id
        query = select(CHECKPOINTS).where(seen)
        async with self._database.reading() as connection:
            await job_row_of(connection, job_id, sees)
            query = await paged(connection, query, CHECKPOINTS, page, seen=seen, noun="checkpoint")
            return [to_checkpoint(row) for row in (await connection.execute(query)).mappings()]


async def add_events(
    connection: AsyncConnection,
    job_id: str,
    last_number: int,
    events: Sequence[NewEvent],
    now: datetime,
) -> None:
    """Keeps events, numbered from the last one on."""
    rows = [
        event_row(
            JobEvent(
                new_event_id(),
                job_id,
                number,
                event.create_time or now,
                event.level,
                event.message,
                event.detail,
            )
        )
        for number, event in enumerate(events, last_number + 1)
    ]
    if rows:
        await connection.execute(insert(EVENTS), rows)


async def job_row_of(
    connection: AsyncConnection, id: str, sees: str | None, *, lock: bool = False
) -> RowMapping:
    """Reads a job's row, and with a lock keeps it as it is till the transaction ends."""
    query = select(JOBS).where(JOBS.c.id == id, seen_jobs(sees))
    if lock:
        query = query.with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise no_job(id)
    return row


async def _events(connection: AsyncConnection, query: Select[Any]) -> list[JobEvent]:
    return [to_event(row) for row in (await connection.execute(query)).mappings()]
