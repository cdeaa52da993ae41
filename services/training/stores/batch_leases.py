"""Who works on batches, and what came of their requests, in SQL."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    RowMapping,
    Select,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import Conflict, FailedPrecondition
from services.sql.database import Database
from services.training.batch_bits import has_bit, with_bits
from services.training.batch_names import new_lease_id, no_batch
from services.training.batch_records import Batch, BatchState, Held, Part
from services.training.batch_states import batch_stamped
from services.training.receiving import given_up
from services.training.stores.batch_rows import batch_row, to_batch
from services.training.stores.sight import UNENDED_BATCH
from services.training.stores.tables import BATCH_PARTS, BATCHES, DRAFT, FILES, PART, REMOVED

_C = BATCHES.c
_OTHER = BATCHES.alias("other")
_FREE = {"lease_id": None, "lease_until": None}


class BatchLeases:
    """Hands out batches, and keeps results; part of `SqlBatches`."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def settle(self) -> None:
        """Notes the end of batches whose window is over, and of those that are let go of."""
        now = self._clock()
        begun = (BatchState.VALIDATING.value, BatchState.IN_PROGRESS.value)
        over = and_(_C.state.in_(begun), _C.outcome.is_(None), _C.expire_time <= now)
        dropped = and_(_C.state == BatchState.CANCELLING.value, _C.outcome.is_(None), _is_free(now))
        async with self._database.reading() as connection:
            found = await connection.scalar(select(_C.id).where(or_(over, dropped)).limit(1))
        if found is None:
            return  # the usual case keeps nobody from writing
        async with self._database.writing() as connection:
            for which, outcome in ((over, BatchState.EXPIRED), (dropped, BatchState.CANCELLED)):
                change = update(BATCHES).where(which)
                await connection.execute(change.values(outcome=outcome.value, **_FREE))

    async def lease(self, endpoints: Sequence[str], duration: timedelta) -> Held | None:
        """Leases a batch that is in progress."""
        now = self._clock()
        busy = (
            select(func.count())
            .where(_OTHER.c.owner == _C.owner, _OTHER.c.lease_until > now)
            .correlate(BATCHES)
            .scalar_subquery()
        )
        query = (
            select(BATCHES)
            .where(
                _C.state == BatchState.IN_PROGRESS.value,
                _C.outcome.is_(None),
                _C.expire_time > now,
                _C.endpoint.in_(list(endpoints)),
                _is_free(now),
            )
            .order_by(busy, _C.create_time, _C.id)
        )
        return await self._taken(query, now + duration)

    async def lease_chore(self, duration: timedelta) -> Held | None:
        """Leases a batch whose file is to be read, or whose files are to be written."""
        now = self._clock()
        new = _C.state == BatchState.VALIDATING.value
        ready = and_(UNENDED_BATCH, _C.outcome.is_not(None))
        query = select(BATCHES).where(or_(new, ready), _is_free(now)).order_by(_C.create_time)
        return await self._taken(query, now + duration)

    async def _taken(self, query: Select[Any], until: datetime) -> Held | None:
        query = query.limit(1)
        async with self._database.reading() as connection:
            if (await connection.execute(query)).one_or_none() is None:
                return None
        lease_id = new_lease_id()
        async with self._database.writing() as connection:
            locked = query.with_for_update(skip_locked=True, of=BATCHES)
            row = (await connection.execute(locked)).mappings().one_or_none()
            if row is None:
                return None
            values = {"lease_id": lease_id, "lease_until": until}
            await connection.execute(update(BATCHES).where(_C.id == row["id"]).values(values))
        return Held(to_batch(row), lease_id, row["done"])

    async def renew(self, id: str, lease_id: str, duration: timedelta) -> Batch:
        """Makes a lease last so long from now on."""
        async with self._database.writing() as connection:
            row = await _held_row(connection, id, lease_id, lock=True)
            change = update(BATCHES).where(_C.id == id)
            await connection.execute(change.values(lease_until=self._clock() + duration))
        return to_batch(row)

    async def release(self, id: str, lease_id: str) -> None:
        """Gives a lease back."""
        change = update(BATCHES).where(_C.id == id, _C.lease_id == lease_id)
        async with self._database.writing() as connection:
            await connection.execute(change.values(_FREE))

    async def held(self, id: str, lease_id: str) -> Held:
        """Reads a batch that is held."""
        async with self._database.reading() as connection:
            row = await _held_row(connection, id, lease_id)
        return Held(to_batch(row), lease_id, row["done"])

    async def append(
        self, id: str, lease_id: str, part: Part, completed: Sequence[int], failed: Sequence[int]
    ) -> Batch:
        """Notes results."""
        numbers = [*completed, *failed]
        async with self._database.writing() as connection:
            row = await _held_row(connection, id, lease_id, lock=True)
            if any(has_bit(row["done"], number) for number in numbers):
                raise Conflict("One of these requests has a result already. Send the others again.")
            kept = await connection.execute(
                update(FILES)
                .where(FILES.c.id == part.file_id, FILES.c.state == DRAFT)
                .values(state=PART, size_bytes=part.output_bytes + part.error_bytes)
            )
            if kept.rowcount == 0:
                raise given_up()
            number = row["part_count"]
            await connection.execute(
                insert(BATCH_PARTS).values(
                    file=part.file_id,
                    batch=id,
                    number=number,
                    output_bytes=part.output_bytes,
                    error_bytes=part.error_bytes,
                )
            )
            after = self._counted(to_batch(row), len(completed), len(failed))
            values = batch_row(after) | {
                "done": with_bits(row["done"], numbers),
                "part_count": number + 1,
            }
            if after.outcome is not None:
                values |= _FREE
            await connection.execute(update(BATCHES).where(_C.id == id).values(values))
        return after

    async def parts(self, id: str) -> Sequence[Part]:
        """Lists the parts of a batch."""
        c = BATCH_PARTS.c
        query = select(c.file, c.output_bytes, c.error_bytes).where(c.batch == id)
        async with self._database.reading() as connection:
            found = await connection.execute(query.order_by(c.number))
            return [Part(row.file, row.output_bytes, row.error_bytes) for row in found]

    def _counted(self, batch: Batch, completed: int, failed: int) -> Batch:
        after = replace(batch, completed=batch.completed + completed, failed=batch.failed + failed)
        is_whole = after.completed + after.failed == after.total
        if not is_whole or after.state is not BatchState.IN_PROGRESS:
            return after
        last = replace(after, state=BatchState.FINALIZING, outcome=BatchState.COMPLETED)
        return batch_stamped(last, self._clock())


def check_lease(row: RowMapping, lease_id: str) -> None:
    """Raises `FailedPrecondition` unless a lease is the batch's last."""
    if row["lease_id"] != lease_id:
        raise FailedPrecondition("The lease of this batch is over. Leave it alone.")


def dropped_parts(id: str) -> Sequence[Any]:
    """Returns the statements that let go of a batch's parts: their blobs go with the next sweep."""
    of_batch = select(BATCH_PARTS.c.file).where(BATCH_PARTS.c.batch == id)
    return (
        update(FILES).where(FILES.c.id.in_(of_batch)).values(state=REMOVED),
        delete(BATCH_PARTS).where(BATCH_PARTS.c.batch == id),
    )


async def _held_row(
    connection: AsyncConnection, id: str, lease_id: str, *, lock: bool = False
) -> RowMapping:
    query = select(BATCHES).where(_C.id == id)
    if lock:
        query = query.with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise no_batch(id)
    check_lease(row, lease_id)
    return row


def _is_free(now: datetime) -> ColumnElement[bool]:
    return or_(_C.lease_until.is_(None), _C.lease_until <= now)
