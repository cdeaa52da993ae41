"""Batches, in SQL."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import RowMapping, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import AlreadyExists, InvalidArgument, NotFound, QueueFull
from services.sql.database import Database
from services.sql.shield import Shield
from services.training.batch_bits import no_bits
from services.training.batch_names import no_batch
from services.training.batch_records import BATCH_ENDED, Batch, BatchSpec, BatchState
from services.training.batch_states import batch_may_follow, batch_stamped
from services.training.batch_store import BatchChange
from services.training.names import no_file
from services.training.records import Page, Purpose
from services.training.stores.batch_leases import BatchLeases, check_lease, dropped_parts
from services.training.stores.batch_rows import batch_request_hash, batch_row, to_batch
from services.training.stores.pages import paged
from services.training.stores.sight import UNENDED_BATCH, seen_batches, seen_files
from services.training.stores.tables import BATCHES, FILES

_C = BATCHES.c
_STARTS = 0x70656E7374627463
"""Any constant: names the lock that those who make batches take turns on."""
_FIXED = ("id", "owner", "owner_standing", "spec", "salt", "create_time", "expire_time")
"""What can't change."""


class SqlBatches:
    """Keeps batches in SQLite or Postgres; see `services.training.batch_store`."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._shield = Shield()
        leases = BatchLeases(database, clock)
        whole = self._shield.around
        self.stamp = database.stamp
        self.create = whole(self._create)
        self.made_by = whole(self._made_by)
        self.batch = whole(self._batch)
        self.batches = whole(self._batches)
        self.change = whole(self._change)
        self.settle = whole(leases.settle)
        self.lease = whole(leases.lease)
        self.lease_chore = whole(leases.lease_chore)
        self.renew = whole(leases.renew)
        self.release = whole(leases.release)
        self.held = whole(leases.held)
        self.append = whole(leases.append)
        self.parts = whole(leases.parts)

    async def finish(self) -> None:
        """Waits for what still runs."""
        await self._shield.finish()

    async def _create(
        self,
        batch: Batch,
        *,
        request_id: str = "",
        any_file: bool = False,
        most_file_bytes: int = 0,
        most_unended: int = 0,
    ) -> Batch:
        async with self._database.writing() as connection:
            if self._database.postgres:
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _STARTS}
                )
            if request_id:
                known = await self._requested(connection, batch.owner, request_id, batch.spec)
                if known is not None:
                    return known
            if most_unended:
                await self._check_room(connection, most_unended)
            sees = None if any_file else batch.owner
            await self._check_file(connection, batch.spec.input_file, sees, most_file_bytes)
            row = batch_row(batch) | {
                "done": b"",
                "part_count": 0,
                "request_id": request_id or None,
                "request_hash": batch_request_hash(batch.spec),
            }
            await connection.execute(insert(BATCHES).values(row))
        return batch

    async def _made_by(self, owner: str, request_id: str, spec: BatchSpec) -> Batch | None:
        async with self._database.reading() as connection:
            return await self._requested(connection, owner, request_id, spec)

    async def _batch(self, id: str, sees: str | None) -> Batch:
        async with self._database.reading() as connection:
            return to_batch(await _row(connection, id, sees))

    async def _batches(self, sees: str | None, page: Page) -> Sequence[Batch]:
        seen = seen_batches(sees)
        query = select(BATCHES).where(seen)
        async with self._database.reading() as connection:
            query = await paged(connection, query, BATCHES, page, seen=seen, noun="batch")
            return [to_batch(row) for row in (await connection.execute(query)).mappings()]

    async def _change(
        self, id: str, sees: str | None, change: BatchChange, *, lease_id: str | None = None
    ) -> Batch:
        async with self._database.writing() as connection:
            row = await _row(connection, id, sees, lock=True)
            if lease_id is not None:
                check_lease(row, lease_id)
            before = to_batch(row)
            wanted = change(before)
            _check(before, wanted)
            after = batch_stamped(wanted, self._clock())
            if after == before:
                return before
            values = batch_row(after)
            if after.state is BatchState.IN_PROGRESS and before.state is not after.state:
                values["done"] = no_bits(after.total)
            if _is_let_go(before, after):
                values |= {"lease_id": None, "lease_until": None}
            if after.state in BATCH_ENDED:
                values["done"] = b""
                for statement in dropped_parts(id):
                    await connection.execute(statement)
            await connection.execute(update(BATCHES).where(_C.id == id).values(values))
        return after

    async def _requested(
        self, connection: AsyncConnection, owner: str, request_id: str, spec: BatchSpec
    ) -> Batch | None:
        query = select(BATCHES).where(_C.owner == owner, _C.request_id == request_id)
        row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            return None
        if row["request_hash"] != batch_request_hash(spec):
            raise AlreadyExists(
                "This request ID made another batch before. Choose another ID for another batch.",
                field="request_id",
            )
        return to_batch(row)

    async def _check_room(self, connection: AsyncConnection, most: int) -> None:
        query = select(func.count()).select_from(BATCHES).where(UNENDED_BATCH)
        if (await connection.execute(query)).scalar_one() >= most:
            raise QueueFull(
                f"{most} batches wait and run already. Try again when one of them has ended.",
                retry_after_s=60,
            )

    async def _check_file(
        self, connection: AsyncConnection, id: str, sees: str | None, most_bytes: int
    ) -> None:
        """Checks that a file is there, and keeps it there till the transaction ends."""
        field = "batch.input_file"
        query = select(FILES.c.purpose, FILES.c.size_bytes).where(
            FILES.c.id == id, seen_files(sees, self._clock())
        )
        found = (await connection.execute(query.with_for_update(read=True))).one_or_none()
        if found is None:
            raise NotFound(no_file(id).message, field=field)
        if found.purpose != Purpose.BATCH.value:
            raise InvalidArgument(
                f"'{field}': this file was uploaded for {found.purpose!r}. Upload it again with "
                f"the purpose {Purpose.BATCH.value!r}.",
                field=field,
            )
        if most_bytes and found.size_bytes > most_bytes:
            raise InvalidArgument(
                f"'{field}': this file has more than {most_bytes:,} bytes, the most that a batch "
                "takes. Split it.",
                field=field,
            )


async def _row(
    connection: AsyncConnection, id: str, sees: str | None, *, lock: bool = False
) -> RowMapping:
    query = select(BATCHES).where(_C.id == id, seen_batches(sees))
    if lock:
        query = query.with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        raise no_batch(id)
    return row


def _is_let_go(before: Batch, after: Batch) -> bool:
    """Tells whether whoever holds a batch has no business with it any more. One that is to be
    cancelled is let go of by its holder."""
    moved = after.state is not before.state and after.state is not BatchState.CANCELLING
    return moved or after.outcome is not before.outcome


def _check(before: Batch, after: Batch) -> None:
    for name in _FIXED:
        if getattr(before, name) != getattr(after, name):
            raise ValueError(f"{name} of a batch can't change")
    if not batch_may_follow(before.state, after.state):
        raise ValueError(f"{after.state.value} can't follow {before.state.value}")
