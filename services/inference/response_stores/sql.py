"""Responses, in SQL."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    and_,
    delete,
    func,
    insert,
    literal,
    not_,
    select,
    tuple_,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import AlreadyExists, InvalidArgument, NotFound
from services.inference.response_records import Chain, Item, NewResponse, Response, Spot, Window
from services.inference.response_stores.database import Database
from services.inference.response_stores.tables import ITEMS, RESPONSES
from services.sql.shield import Shield

_R, _I = RESPONSES.c, ITEMS.c
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SWEPT = 500
"""At once."""
_SHOWN = 80
_ID = re.compile("resp_[0-9A-Za-z]{24}")
_ITEM_ID = re.compile("[!-~]{1,128}")


class SqlResponses:
    """Keeps responses in SQLite or Postgres; see `services.inference.response_store`."""

    def __init__(self, url: str, clock: Callable[[], datetime]) -> None:
        """Raises `ValueError` where the URL can't be used; says what to do."""
        self._database = Database(url)
        self._clock = clock
        self._shield = Shield()
        whole = self._shield.around
        self.prepare = whole(self._prepare)
        self.keep = whole(self._keep)
        self.response = whole(self._response)
        self.remove = whole(self._remove)
        self.chain = whole(self._chain)
        self.conversation = whole(self._conversation)
        self.input_items = whole(self._input_items)
        self.items = whole(self._items)
        self.sweep = whole(self._sweep)

    async def close(self) -> None:
        """Waits for what still runs, and lets go of the database."""
        await self._shield.finish()
        await self._database.close()

    async def _prepare(self) -> None:
        """Brings the schema up to date, which the first use does otherwise."""
        await self._database.prepare()

    async def _keep(
        self, new: NewResponse, owner: str, *, create_time: datetime, expire_time: datetime
    ) -> Response:
        size = new.size_bytes
        row: dict[str, Any] = {
            "id": new.id,
            "owner": owner,
            "previous": new.previous,
            "create_time": _micros(create_time),
            "expire_time": _micros(expire_time),
            "turn": 1,
            "chain_bytes": size,
            "content": new.json,
        }
        every = [(False, item) for item in new.input] + [(True, item) for item in new.output]
        items = [
            {
                "response": new.id,
                "position": position,
                "answered": answered,
                "owner": owner,
                "item_id": item.id,
                "content": item.json,
            }
            for position, (answered, item) in enumerate(every)
        ]
        async with self._database.writing() as connection:
            if new.previous is not None:
                before = await self._row(connection, new.previous, owner)
                row |= {"turn": before["turn"] + 1, "chain_bytes": before["chain_bytes"] + size}
            try:
                await connection.execute(insert(RESPONSES).values(row))
            except IntegrityError:
                raise AlreadyExists(
                    f"There is a response {new.id!r} already.", field="response.name"
                ) from None
            if items:
                await connection.execute(insert(ITEMS), items)
        return Response(new.id, new.previous, new.output, new.json, create_time, expire_time)

    async def _response(self, id: str, owner: str) -> Response:
        async with self._database.reading() as connection:
            row = await self._row(connection, id, owner)
            query = select(_I.item_id, _I.content).where(_I.response == id, _I.answered)
            found = (await connection.execute(query.order_by(_I.position))).all()
        return Response(
            id=id,
            previous=row["previous"],
            output=[Item(*item) for item in found],
            json=row["content"],
            create_time=_moment(row["create_time"]),
            expire_time=_moment(row["expire_time"]),
        )

    async def _remove(self, id: str, owner: str) -> None:
        async with self._database.writing() as connection:
            await self._row(connection, id, owner)
            await connection.execute(delete(RESPONSES).where(_R.id == id))

    async def _chain(self, id: str, owner: str) -> Chain:
        async with self._database.reading() as connection:
            row = await self._row(connection, id, owner)
            path = self._path(id, owner)
            count = await connection.scalar(select(func.count()).select_from(path))
        return Chain(row["turn"], row["chain_bytes"], is_whole=count == row["turn"])

    async def _conversation(self, id: str, owner: str) -> Sequence[Item]:
        async with self._database.reading() as connection:
            await self._row(connection, id, owner)
            path = self._path(id, owner)
            query = select(_I.item_id, _I.content).join(path, path.c.id == _I.response)
            found = await connection.execute(query.order_by(path.c.turn, _I.position))
            return [Item(*item) for item in found.all()]

    async def _input_items(
        self, id: str, owner: str, window: Window
    ) -> Sequence[tuple[Spot, Item]]:
        async with self._database.reading() as connection:
            await self._row(connection, id, owner)
            path = self._path(id, owner)
            own_answer = and_(_I.response == id, _I.answered)
            key = (path.c.turn, _I.position)
            query: Any = (
                select(*key, _I.item_id, _I.content)
                .join(path, path.c.id == _I.response)
                .where(not_(own_answer))
            )
            after = window.after
            if window.after_id:
                after = await _spot(connection, query, key, window)
            if after is not None:
                place = tuple_(*key)
                spot = tuple_(after.turn, after.position, types=[column.type for column in key])
                query = query.where(place < spot if window.descending else place > spot)
            order = [column.desc() if window.descending else column for column in key]
            found: Any = await connection.execute(query.order_by(*order).limit(window.size))
            return [
                (Spot(turn, position), Item(item_id, content))
                for turn, position, item_id, content in found.all()
            ]

    async def _items(self, ids: Sequence[str], owner: str) -> Sequence[Item]:
        wanted = [id for id in ids if _ITEM_ID.fullmatch(id)]
        query = (
            select(_I.item_id, _I.content)
            .join(RESPONSES, _R.id == _I.response)
            .where(_I.owner == owner, _I.item_id.in_(wanted), self._lasts())
            .order_by(_R.create_time, _R.id, _I.position)
        )
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).all()
        latest = {item_id: Item(item_id, content) for item_id, content in found}
        return list(latest.values())

    async def _sweep(self) -> int:
        expired = select(_R.id).where(_R.expire_time <= _micros(self._clock())).limit(_SWEPT)
        async with self._database.reading() as connection:
            if await connection.scalar(expired) is None:
                return 0  # the usual case keeps nobody from writing
        async with self._database.writing() as connection:
            ids = (await connection.execute(expired.with_for_update(skip_locked=True))).scalars()
            gone = await connection.execute(delete(RESPONSES).where(_R.id.in_(ids.all())))
            return gone.rowcount

    async def _row(self, connection: AsyncConnection, id: str, owner: str) -> Mapping[Any, Any]:
        row = None
        if _ID.fullmatch(id):
            query = select(RESPONSES).where(_R.id == id, _R.owner == owner, self._lasts())
            row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"There is no response {id[:_SHOWN]!r}.")
        return row

    def _path(self, id: str, owner: str) -> CTE:
        """The responses from one back to the first of its conversation, or to where one is gone."""
        columns = (_R.id, _R.previous, _R.turn)
        last = select(*columns).where(_R.id == literal(id), _R.owner == owner, self._lasts())
        path = last.cte("path", recursive=True)
        before = (
            select(*columns)
            .join(path, path.c.previous == _R.id)
            .where(_R.owner == owner, self._lasts())
        )
        return path.union_all(before)

    def _lasts(self) -> ColumnElement[bool]:
        return _R.expire_time > _micros(self._clock())


async def _spot(
    connection: AsyncConnection, query: Any, key: Sequence[Any], window: Window
) -> Spot:
    """Finds an item by its ID: of several, the one from which pages never come twice."""
    if _ITEM_ID.fullmatch(window.after_id):
        order = key if window.descending else [column.desc() for column in key]
        named = query.where(_I.item_id == window.after_id).order_by(*order).limit(1)
        found: Any = (await connection.execute(named)).one_or_none()
        if found is not None:
            return Spot(found.turn, found.position)
    raise InvalidArgument(
        f"'after': there is no item {window.after_id[:_SHOWN]!r} in this list. Begin it anew.",
        field="after",
    )


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
