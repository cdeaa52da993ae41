"""The usage ledger in SQLite or Postgres, beside the catalogue."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    String,
    and_,
    delete,
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

from services.model.stores.sql import SqlStore
from services.model.stores.tables import USAGE
from services.model.usage_records import Filter, Group, Outcome, Total, Usage
from services.page_tokens import Place

_MICROSECOND: Final = timedelta(microseconds=1)
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "cached_tokens", "images")
_FORMATS: Final = {
    Group.DAY: ("%Y-%m-%d", "YYYY-MM-DD"),
    Group.MONTH: ("%Y-%m", "YYYY-MM"),
}


class SqlUsage:
    """Keeps the ledger; see `services.model.usage_store`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def add(self, records: Sequence[Usage]) -> None:
        """Adds records, all or none; those whose ID is there already stay as they are."""
        insert = postgresql.insert if self._store.is_postgres else sqlite.insert
        statement = insert(USAGE).on_conflict_do_nothing(index_elements=[USAGE.c.id])
        # In one order for all: Postgres would find two batches that share records in a deadlock.
        rows = [_row(record) for record in sorted(records, key=lambda record: record.id)]
        async with self._store.executing(write=True) as execute:
            await execute(statement, rows)

    async def find(self, wanted: Filter, after: Place, limit: int) -> list[Usage]:
        """Returns records, newest first, those after a place."""
        query = select(USAGE).where(*_conditions(wanted))
        if after.time is not None:
            same = and_(USAGE.c.start_time == after.time, USAGE.c.id < after.id)
            query = query.where(or_(USAGE.c.start_time < after.time, same))
        query = query.order_by(USAGE.c.start_time.desc(), USAGE.c.id.desc()).limit(limit)
        async with self._store.executing(write=False) as execute:
            return [_usage(row) for row in (await execute(query)).mappings()]

    async def total(self, wanted: Filter, groups: Sequence[Group], limit: int) -> list[Total]:
        """Returns sums, in the order of what they are grouped by."""
        by = [self._group(group) for group in groups]
        sums = [func.coalesce(func.sum(USAGE.c[name]), 0).label(name) for name in _COUNTS]
        query = select(*by, func.count().label("requests"), *sums).where(*_conditions(wanted))
        columns = [column.element for column in by]
        query = query.group_by(*columns).order_by(*columns).limit(limit)
        async with self._store.executing(write=False) as execute:
            rows = (await execute(query)).mappings().all()
        return [_total(dict(row), groups) for row in rows]

    async def drop(self, before: datetime, limit: int) -> int:
        """Removes records that began before a time, and returns how many; at most so many."""
        old = select(USAGE.c.id).where(USAGE.c.start_time < before)
        old = old.order_by(USAGE.c.start_time).limit(limit)
        async with self._store.executing(write=True) as execute:
            return (await execute(delete(USAGE).where(USAGE.c.id.in_(old)))).rowcount

    def _group(self, group: Group) -> Any:
        if group not in _FORMATS:
            return USAGE.c[group.name.lower()].label(group.name.lower())
        in_sqlite, in_postgres = _FORMATS[group]
        # Spelt out, not bound: databases must see that what is grouped by is what is selected.
        if self._store.is_postgres:
            moment = "to_timestamp(start_time / 1000000) AT TIME ZONE 'UTC'"
            text = f"to_char({moment}, '{in_postgres}') COLLATE \"C\""
        else:
            text = f"strftime('{in_sqlite}', start_time / 1000000, 'unixepoch')"
        return literal_column(text, String()).label("period")


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        USAGE.c[name] == value
        for name in ("principal", "model", "dialect", "request_id")
        if (value := getattr(wanted, name))
    ]
    if wanted.start_time is not None:
        conditions.append(USAGE.c.start_time >= wanted.start_time)
    if wanted.end_time is not None:
        conditions.append(USAGE.c.start_time < wanted.end_time)
    return conditions


def _row(usage: Usage) -> dict[str, Any]:
    return {
        "id": usage.id,
        "principal": usage.principal,
        "request_id": usage.request_id,
        "model": usage.model,
        "method": usage.method,
        "dialect": usage.dialect,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "images": usage.images,
        "queued_us": usage.queued // _MICROSECOND,
        "ran_us": usage.ran // _MICROSECOND,
        "outcome": usage.outcome.value,
        "start_time": usage.start_time.astimezone(UTC),
        "end_user": usage.user,
    }


def _usage(row: Any) -> Usage:
    return Usage(
        id=row["id"],
        principal=row["principal"],
        request_id=row["request_id"],
        model=row["model"],
        method=row["method"],
        dialect=row["dialect"],
        outcome=Outcome(row["outcome"]),
        start_time=row["start_time"],
        prompt_tokens=row["prompt_tokens"],
        completion_tokens=row["completion_tokens"],
        cached_tokens=row["cached_tokens"],
        images=row["images"],
        queued=timedelta(microseconds=row["queued_us"]),
        ran=timedelta(microseconds=row["ran_us"]),
        user=row["end_user"],
    )


def _total(row: dict[str, Any], groups: Sequence[Group]) -> Total:
    names = ["period" if group in _FORMATS else group.name.lower() for group in groups]
    counts = {name: int(row[name]) for name in ("requests", *_COUNTS)}  # Postgres' are decimals
    return Total(**counts, **{name: row[name] for name in names})
