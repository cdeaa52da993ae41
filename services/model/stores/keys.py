"""API keys in SQLite or Postgres, beside the catalogue.

A key that is revoked leaves a row with its ID, for those who follow the changes, and nothing of
its secret.
"""

import dataclasses
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import and_, insert, or_, select, update

from policy.principals import Limits, Role
from services.model.key_records import Key, KeyChanges
from services.model.stores.sql import SqlStore
from services.model.stores.tables import KEY_FEED, KEYS
from services.model.stores.transactions import Execute
from services.page_tokens import Place


class SqlKeys:
    """Keeps keys; see `services.model.key_store`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.stamp = store.stamp

    async def get(self, key_id: str) -> Key | None:
        """Returns a key."""
        async with self._store.executing(write=False) as execute:
            return await _get(execute, key_id)

    async def page(self, after: Place, limit: int) -> list[Key]:
        """Returns keys, newest first, those after a place."""
        query = select(KEYS).where(KEYS.c.sha256.is_not(None))
        if after.time is not None:
            same = and_(KEYS.c.create_time == after.time, KEYS.c.id < after.id)
            query = query.where(or_(KEYS.c.create_time < after.time, same))
        query = query.order_by(KEYS.c.create_time.desc(), KEYS.c.id.desc()).limit(limit)
        async with self._store.executing(write=False) as execute:
            return [_key(row) for row in (await execute(query)).mappings()]

    async def changes(self, after: int | None) -> KeyChanges:
        """Returns what changed after a sequence; everything for None, or where the store has not
        come so far."""
        async with self._store.executing(write=False) as execute:
            last: int = (await execute(select(KEY_FEED.c.sequence))).scalar_one()
            whole = after is None or after > last
            if after == last:
                return KeyChanges(last, ())
            query = select(KEYS).where(KEYS.c.sequence > (0 if whole else after))
            rows = (await execute(query.order_by(KEYS.c.sequence))).mappings().all()
        return KeyChanges(
            last,
            tuple(_key(row) for row in rows if row["sha256"] is not None),
            tuple(row["id"] for row in rows if row["sha256"] is None),
            whole=whole,
        )

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator["_Writing", None]:
        """Opens a transaction that writes; it commits at the end of the block."""
        async with self._store.executing(write=True) as execute:
            # Writers take turns, so that sequences become visible in their order.
            sequence = select(KEY_FEED.c.sequence).with_for_update()
            yield _Writing(execute, (await execute(sequence)).scalar_one())


class _Writing:
    def __init__(self, execute: Execute, sequence: int) -> None:
        self._execute = execute
        self._sequence = sequence

    async def get(self, key_id: str) -> Key | None:
        return await _get(self._execute, key_id)

    async def verifier_of(self, gel_user: str) -> str:
        query = select(KEYS.c.scram_verifier).where(
            KEYS.c.gel_user == gel_user, KEYS.c.sha256.is_not(None)
        )
        return (await self._execute(query.limit(1))).scalar_one_or_none() or ""

    async def put(self, key: Key) -> None:
        row = _row(key) | {"sequence": await self._next()}
        updated = await self._execute(update(KEYS).where(KEYS.c.id == key.id).values(row))
        if updated.rowcount == 0:
            await self._execute(insert(KEYS).values(row))

    async def remove(self, key_id: str) -> None:
        nothing = {"sha256": None, "scram_verifier": "", "sequence": await self._next()}
        await self._execute(update(KEYS).where(KEYS.c.id == key_id).values(nothing))

    async def _next(self) -> int:
        self._sequence += 1
        await self._execute(update(KEY_FEED).values(sequence=self._sequence))
        return self._sequence


async def _get(execute: Execute, key_id: str) -> Key | None:
    query = select(KEYS).where(KEYS.c.id == key_id, KEYS.c.sha256.is_not(None))
    row = (await execute(query)).mappings().one_or_none()
    return None if row is None else _key(row)


def _row(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "sha256": key.sha256,
        "display_name": key.display_name,
        "roles": [role.value for role in key.roles],
        "allowed_models": list(key.allowed_models),
        "limits": {
            name: value
            for name, value in dataclasses.asdict(key.limits).items()
            if value is not None
        },
        "tenants": list(key.tenants),
        "gel_user": key.gel_user,
        "scram_verifier": key.scram_verifier,
        "create_time": key.create_time,
        "expire_time": key.expire_time,
        "version": key.version,
    }


def _key(row: Mapping[Any, Any]) -> Key:
    return Key(
        id=row["id"],
        sha256=row["sha256"],
        display_name=row["display_name"],
        roles=tuple(Role(role) for role in row["roles"]),
        create_time=row["create_time"],
        allowed_models=tuple(row["allowed_models"]),
        limits=Limits(**row["limits"]),
        tenants=tuple(row["tenants"]),
        gel_user=row["gel_user"],
        scram_verifier=row["scram_verifier"],
        expire_time=row["expire_time"],
        version=row["version"],
    )
