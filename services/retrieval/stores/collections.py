"""Collections, in SQL."""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    delete,
    insert,
    literal,
    or_,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from services.retrieval.indexes.port import Index
from services.retrieval.records import Collection, CollectionChange, Page
from services.retrieval.stores import rows
from services.retrieval.stores.database import Database
from services.retrieval.stores.paging import paged
from services.retrieval.stores.tables import COLLECTIONS, DOCUMENTS, SEARCHES, Instant

Clock = Callable[[], datetime]
_C = COLLECTIONS.c


class SqlCollections:
    """Keeps collections. One whose time is over is as if it were gone."""

    def __init__(self, database: Database, index: Index, clock: Clock) -> None:
        self._database = database
        self._index = index
        self._clock = clock

    def _living(self) -> ColumnElement[bool]:
        return or_(_C.expire_time.is_(None), _C.expire_time > self._clock())

    def _select(self) -> Select[Any]:
        searched = SEARCHES.c.time.label("last_search_time")
        return select(COLLECTIONS, searched).outerjoin(SEARCHES, SEARCHES.c.collection == _C.key)

    async def _found(self, connection: AsyncConnection, tenant: str, id: str) -> rows.Row:
        query = self._select().where(_C.tenant == tenant, _C.id == id, self._living())
        row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"There is no collection {id!r}.", metadata={"collection": id})
        return row

    async def by_uid(
        self, connection: AsyncConnection, uid: str, *, lock: bool = False
    ) -> rows.Row:
        """Returns a row of COLLECTIONS; with `lock` nobody else writes documents until the
        transaction ends. Raises NotFound."""
        query = select(COLLECTIONS).where(_C.uid == uid, self._living())
        if lock:
            query = query.with_for_update()
        row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            raise NotFound("The collection was deleted.")
        return row

    async def create_collection(self, collection: Collection, request_id: str = "") -> Collection:
        """Stores a new collection; see `services.retrieval.store`."""
        try:
            async with self._database.writing() as connection:
                return await self._create(connection, collection, request_id)
        except IntegrityError as error:
            # Another call was quicker, perhaps the same one.
            async with self._database.reading() as connection:
                made = await self._made_by(connection, collection.tenant, request_id)
            if made is not None:
                return made
            raise _taken(collection) from error

    async def _create(
        self, connection: AsyncConnection, collection: Collection, request_id: str
    ) -> Collection:
        made = await self._made_by(connection, collection.tenant, request_id)
        if made is not None:
            return made
        same = select(COLLECTIONS).where(_C.tenant == collection.tenant, _C.id == collection.id)
        row = (await connection.execute(same.with_for_update())).mappings().one_or_none()
        if row is not None:
            if row["expire_time"] is None or row["expire_time"] > self._clock():
                raise _taken(collection)
            await self._delete(connection, row)
        values = rows.collection_row(collection) | dict.fromkeys(_COUNTS, 0)
        values["request_id"] = request_id or None
        added = await connection.execute(insert(COLLECTIONS).values(values).returning(_C.key))
        values["key"] = added.scalar_one()
        await self._index.create(connection, rows.to_space(values))
        return await self._stored(connection, collection)

    async def _stored(self, connection: AsyncConnection, collection: Collection) -> Collection:
        return rows.to_collection(await self._found(connection, collection.tenant, collection.id))

    async def _made_by(
        self, connection: AsyncConnection, tenant: str, request_id: str
    ) -> Collection | None:
        if not request_id:
            return None
        query = self._select().where(
            _C.tenant == tenant, _C.request_id == request_id, self._living()
        )
        row = (await connection.execute(query)).mappings().one_or_none()
        return None if row is None else rows.to_collection(row)

    async def collection(self, tenant: str, id: str) -> Collection:
        """Gets one, with its counts."""
        async with self._database.reading() as connection:
            return rows.to_collection(await self._found(connection, tenant, id))

    async def collections(self, tenant: str, page: Page) -> Sequence[Collection]:
        """Lists a tenant's."""
        async with self._database.reading() as connection:
            query = self._select().where(_C.tenant == tenant, self._living())
            same_tenant = _C.tenant == tenant
            query = await paged(connection, query, page, COLLECTIONS, same_tenant)
            found = (await connection.execute(query)).mappings().all()
        return [rows.to_collection(row) for row in found]

    async def change_collection(self, tenant: str, id: str, change: CollectionChange) -> Collection:
        """Changes one."""
        values: dict[str, Any] = {"etag": secrets.token_hex(8)}
        if change.display_name is not None:
            values["display_name"] = change.display_name
        if change.chunking is not None:
            values["chunking"] = rows.chunking_json(change.chunking)
        if change.properties is not None:
            values["properties"] = rows.schemas_json(change.properties)
        if change.metadata is not None:
            values["metadata"] = dict(change.metadata)
        async with self._database.writing() as connection:
            row = await self._found(connection, tenant, id)
            row = await self.by_uid(connection, row["uid"], lock=True)
            if change.etag and change.etag != row["etag"]:
                raise Conflict(
                    "The collection changed since you read it. Read it again, then update it.",
                    field="collection.etag",
                    metadata={"etag": row["etag"]},
                )
            now = self._clock()
            values |= {"update_time": now} | _expiry(row["expire_after"], change, now)
            await connection.execute(update(COLLECTIONS).where(_C.key == row["key"]).values(values))
            changed = self._select().where(_C.key == row["key"])
            return rows.to_collection((await connection.execute(changed)).mappings().one())

    async def delete_collection(
        self, tenant: str, id: str, *, expired: datetime | None = None
    ) -> None:
        """Deletes one with everything in it; with `expired`, one whose time was over then."""
        live = self._living() if expired is None else _C.expire_time <= expired
        query = select(COLLECTIONS).where(_C.tenant == tenant, _C.id == id, live)
        async with self._database.writing() as connection:
            row = (await connection.execute(query.with_for_update())).mappings().one_or_none()
            if row is None:
                raise NotFound(f"There is no collection {id!r}.", metadata={"collection": id})
            await self._delete(connection, row)

    async def _delete(self, connection: AsyncConnection, row: rows.Row) -> None:
        await connection.execute(delete(DOCUMENTS).where(DOCUMENTS.c.collection == row["key"]))
        await connection.execute(delete(COLLECTIONS).where(_C.key == row["key"]))
        await self._index.drop(connection, rows.to_space(row))

    async def touch_collection(self, uid: str, searched: datetime) -> None:
        """Notes that it was searched."""
        async with self._database.writing() as connection:
            key = await connection.scalar(select(_C.key).where(_C.uid == uid))
            if key is None:
                return
            # The collection goes before its search, as in a delete: else each could wait for the
            # other.
            expires = literal(searched, Instant) + type_coerce(_C.expire_after, Instant)
            put_off = update(COLLECTIONS).where(_C.key == key, _C.expire_time < expires)
            await connection.execute(put_off.values(expire_time=expires))
            noted = SEARCHES.c.collection == key
            later = update(SEARCHES).where(noted, SEARCHES.c.time < searched)
            await connection.execute(later.values(time=searched))
            if (await connection.execute(select(SEARCHES.c.time).where(noted))).first() is None:
                await connection.execute(insert(SEARCHES).values(collection=key, time=searched))

    async def expired(self, now: datetime) -> Sequence[tuple[str, str]]:
        """Tenant and ID of collections whose time is over."""
        query = select(_C.tenant, _C.id).where(_C.expire_time <= now).order_by(_C.expire_time)
        async with self._database.reading() as connection:
            return [(tenant, id) for tenant, id in await connection.execute(query)]


def _expiry(
    present: timedelta | None, change: CollectionChange, now: datetime
) -> dict[str, datetime | timedelta | None]:
    """Returns what a change does to the end of a collection whose `expire_after` is `present`."""
    after = change.expire_after or (None if change.clears_expire_after else present)
    timed = change.expire_time is not None or change.clears_expire_time
    if after is not None:
        if timed:
            raise InvalidArgument(
                "'collection.expire_time': follows from 'collection.expire_after'. Leave it out, "
                "or clear expire_after.",
                field="collection.expire_time",
            )
        return {"expire_after": after, "expire_time": rows.expiry(after, now)}
    if timed or present is not None:
        return {"expire_after": None, "expire_time": change.expire_time}
    return {}


_COUNTS = (
    "document_count",
    "chunk_count",
    "word_count",
    "size_bytes",
    "sequence",
    "last_document",
    "last_chunk",
)


def _taken(collection: Collection) -> AlreadyExists:
    return AlreadyExists(
        f"There is a collection {collection.id!r} already. Choose another ID, or use that one.",
        field="collection_id",
        metadata={"collection": collection.id},
    )
