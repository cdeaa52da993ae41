"""Files, in SQL."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import FailedPrecondition
from services.sql.database import Database
from services.sql.shield import Shield
from services.training.names import no_file
from services.training.receiving import given_up, no_room
from services.training.records import Draft, File, Page, Purpose
from services.training.repeats import repeated
from services.training.stores.pages import paged
from services.training.stores.sight import NEEDED, UNENDED, UNENDED_BATCH, seen_files
from services.training.stores.tables import BATCHES, DRAFT, FILES, JOBS, KEPT, REMOVED

_C = FILES.c
_GIVEN_UP = 1000
"""At once."""
_OWNERS = 0x7065_6E6F
"""Any constant: with an owner's hash it names the lock that uploads of one owner take turns on."""


class SqlFiles:
    """Keeps files in SQLite or Postgres; see `services.training.store`."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._shield = Shield()
        whole = self._shield.around
        self.begin = whole(self._begin)
        self.touch = whole(self._touch)
        self.keep = whole(self._keep)
        self.made_by = whole(self._made_by)
        self.used_bytes = whole(self._used_bytes)
        self.file = whole(self._file)
        self.files = whole(self._files)
        self.remove = whole(self._remove)
        self.give_up = whole(self._give_up)
        self.give_up_old = whole(self._give_up_old)
        self.removed = whole(self._removed)
        self.forget = whole(self._forget)

    async def finish(self) -> None:
        """Waits for what still runs."""
        await self._shield.finish()

    async def _begin(self, draft: Draft) -> None:
        now = self._clock()
        row = _row(draft) | {"size_bytes": 0, "sha256": "", "create_time": now}
        async with self._database.writing() as connection:
            await connection.execute(insert(FILES).values(state=DRAFT, touch_time=now, **row))

    async def _touch(self, id: str) -> None:
        change = update(FILES).where(_C.id == id, _C.state == DRAFT)
        async with self._database.writing() as connection:
            await connection.execute(change.values(touch_time=self._clock()))

    async def _keep(self, file: File, *, request_id: str, most_owner_bytes: int) -> File:
        async with self._database.writing() as connection:
            if self._database.postgres:
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key, hashtext(:owner))"),
                    {"key": _OWNERS, "owner": file.owner},
                )
            if request_id:
                known = await self._requested(connection, file.owner, request_id)
                if known is not None:
                    return repeated(known, file)
                await connection.execute(self._expired_request(file.owner, request_id))
            if most_owner_bytes:
                used = await self._used(connection, file.owner)
                if used + file.size_bytes > most_owner_bytes:
                    raise no_room(most_owner_bytes)
            row = _row(file) | {
                "size_bytes": file.size_bytes,
                "sha256": file.sha256,
                "create_time": file.create_time,
                "expire_time": file.expire_time,
            }
            kept = await connection.execute(
                update(FILES)
                .where(_C.id == file.id, _C.state == DRAFT)
                .values(state=KEPT, request_id=request_id or None, **row)
            )
            if kept.rowcount == 0:
                raise given_up()
        return file

    async def _made_by(self, owner: str, request_id: str) -> File | None:
        async with self._database.reading() as connection:
            return await self._requested(connection, owner, request_id)

    async def _used_bytes(self, owner: str) -> int:
        async with self._database.reading() as connection:
            return await self._used(connection, owner)

    async def _file(self, id: str, sees: str | None) -> File:
        query = select(FILES).where(_C.id == id, self._seen(sees))
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            raise no_file(id)
        return _to_file(row)

    async def _files(self, sees: str | None, purpose: Purpose | None, page: Page) -> Sequence[File]:
        seen = self._seen(sees)
        query = select(FILES).where(seen)
        if purpose is not None:
            query = query.where(_C.purpose == purpose.value)
        async with self._database.reading() as connection:
            query = await paged(connection, query, FILES, page, seen=seen, noun="file")
            found = (await connection.execute(query)).mappings().all()
        return [_to_file(row) for row in found]

    async def _remove(self, id: str, sees: str | None) -> None:
        query = select(_C.id).where(_C.id == id, self._seen(sees)).with_for_update()
        async with self._database.writing() as connection:
            if await connection.scalar(query) is None:
                raise no_file(id)
            # Asked once the file is locked: a job that names it is seen, or can't start any more.
            job = await connection.scalar(
                select(JOBS.c.id)
                .where(UNENDED, or_(JOBS.c.training_file == id, JOBS.c.validation_file == id))
                .limit(1)
            )
            if job is not None:
                raise FailedPrecondition(
                    f"The training job {job} uses this file. Delete it when the job has ended, or "
                    "cancel the job."
                )
            batch = await connection.scalar(
                select(BATCHES.c.id).where(UNENDED_BATCH, BATCHES.c.input_file == id).limit(1)
            )
            if batch is not None:
                raise FailedPrecondition(
                    f"The batch {batch} reads this file. Delete it when the batch has ended, or "
                    "cancel the batch."
                )
            await connection.execute(update(FILES).where(_C.id == id).values(_REMOVAL))

    async def _give_up(self, id: str) -> bool:
        change = update(FILES).where(_C.id == id, _C.state == DRAFT)
        async with self._database.writing() as connection:
            return (await connection.execute(change.values(_REMOVAL))).rowcount > 0

    async def _give_up_old(self, untouched_since: datetime) -> None:
        old = or_(
            and_(_C.state == DRAFT, _C.touch_time < untouched_since),
            and_(_C.state == KEPT, _C.expire_time <= self._clock(), ~NEEDED),
        )
        query = select(_C.id).where(old).order_by(_C.id).limit(_GIVEN_UP)
        while True:
            async with self._database.reading() as connection:
                if await connection.scalar(query) is None:
                    return  # the usual case keeps nobody from writing
            async with self._database.writing() as connection:
                locked = query.with_for_update(skip_locked=True)
                ids = (await connection.execute(locked)).scalars().all()
                # Asked anew once they are locked: a job may have named one meanwhile.
                change = update(FILES).where(_C.id.in_(ids), old)
                if (await connection.execute(change.values(_REMOVAL))).rowcount == 0:
                    return

    async def _removed(self, most: int) -> Sequence[str]:
        query = select(_C.id).where(_C.state == REMOVED).order_by(_C.touch_time, _C.id)
        async with self._database.reading() as connection:
            return (await connection.execute(query.limit(most))).scalars().all()

    async def _forget(self, id: str) -> None:
        async with self._database.writing() as connection:
            await connection.execute(delete(FILES).where(_C.id == id, _C.state == REMOVED))

    def _seen(self, sees: str | None) -> ColumnElement[bool]:
        """What a caller sees."""
        return seen_files(sees, self._clock())

    async def _used(self, connection: AsyncConnection, owner: str) -> int:
        query = select(func.coalesce(func.sum(_C.size_bytes), 0)).where(self._seen(owner))
        return int((await connection.execute(query)).scalar_one())

    async def _requested(
        self, connection: AsyncConnection, owner: str, request_id: str
    ) -> File | None:
        query = select(FILES).where(self._seen(owner), _C.request_id == request_id)
        row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else _to_file(row)

    def _expired_request(self, owner: str, request_id: str) -> Any:
        """Takes its request ID from a file that has expired, and would keep it until it is swept
        away."""
        same = (_C.owner == owner, _C.request_id == request_id, _C.expire_time <= self._clock())
        return update(FILES).where(*same).values(request_id=None)


_REMOVAL = {"state": REMOVED, "request_id": None}


def _row(draft: Draft) -> dict[str, Any]:
    return {
        "id": draft.id,
        "owner": draft.owner,
        "filename": draft.filename,
        "purpose": draft.purpose.value,
        "mime_type": draft.mime_type,
    }


def _to_file(row: Mapping[Any, Any]) -> File:
    return File(
        id=row["id"],
        owner=row["owner"],
        filename=row["filename"],
        purpose=Purpose(row["purpose"]),
        mime_type=row["mime_type"],
        size_bytes=row["size_bytes"],
        sha256=row["sha256"],
        create_time=row["create_time"],
        expire_time=row["expire_time"],
    )
