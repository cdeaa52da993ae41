"""Transactions of the SQL store."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from types import CoroutineType
from typing import Any

from sqlalchemy import CursorResult, Select, delete, insert, select, update

from services.model.records import (
    Change,
    Entry,
    ModelKind,
    Observation,
    Receipt,
    Reporter,
    Revision,
)
from services.model.stores import rows
from services.model.stores.tables import (
    CATALOGUE,
    CHANGES,
    COUNTERS,
    MODELS,
    NAMES,
    OBSERVATIONS,
    RECEIPTS,
    REPORTERS,
    REVISIONS,
)

Execute = Callable[..., "CoroutineType[Any, Any, CursorResult[Any]]"]
"""Executes a statement, with values where there are any."""


class SqlReading:
    """Reads through one connection."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    async def _rows(self, query: Select[*tuple[object, ...]]) -> Sequence[rows.Row]:
        return (await self._execute(query)).mappings().all()

    async def sequence(self) -> int:
        """Returns the number of the last change."""
        return (await self._execute(select(CATALOGUE.c.sequence))).scalar_one()

    async def floor(self) -> int:
        """Returns the oldest sequence since which every change is still known."""
        return (await self._execute(select(CATALOGUE.c.floor))).scalar_one()

    async def resolve(self, name: str) -> str | None:
        """Returns the ID of the model that has this ID or alias."""
        query = select(NAMES.c.model_id).where(NAMES.c.name == name)
        return (await self._execute(query)).scalar_one_or_none()

    async def entries(
        self,
        *,
        ids: Sequence[str] | None = None,
        kinds: Sequence[ModelKind] = (),
        after: str = "",
        limit: int | None = None,
    ) -> list[Entry]:
        """Returns models in the order of their IDs, by code point, those after `after`."""
        query = select(MODELS).where(MODELS.c.id > after).order_by(MODELS.c.id)
        if ids is not None:
            query = query.where(MODELS.c.id.in_(ids))
        if kinds:
            query = query.where(MODELS.c.kind.in_([kind.value for kind in kinds]))
        if limit is not None:
            query = query.limit(limit)
        models = await self._rows(query)
        if not models:
            return []
        found = query.with_only_columns(MODELS.c.id)
        wanted = await self._rows(
            select(REVISIONS)
            .join(MODELS, MODELS.c.id == REVISIONS.c.model_id)
            .where(MODELS.c.id.in_(found), REVISIONS.c.number == MODELS.c.revision)
        )
        revisions = {row["model_id"]: rows.to_revision(row) for row in wanted}
        aliases: dict[str, list[str]] = defaultdict(list)
        names = select(NAMES).where(NAMES.c.model_id.in_(found), NAMES.c.position > 0)
        for row in await self._rows(names.order_by(NAMES.c.position)):
            aliases[row["model_id"]].append(row["name"])
        observations: dict[str, list[Observation]] = defaultdict(list)
        for row in await self._rows(_observed().where(OBSERVATIONS.c.model_id.in_(found))):
            observations[row["model_id"]].append(rows.to_observation(row))
        return [
            rows.to_entry(row, revisions[row["id"]], aliases[row["id"]], observations[row["id"]])
            for row in models
        ]

    async def revisions(self, model_id: str, *, below: int | None, limit: int) -> list[Revision]:
        """Returns revisions of a model, newest first, those with smaller numbers than `below`."""
        query = select(REVISIONS).where(REVISIONS.c.model_id == model_id)
        if below is not None:
            query = query.where(REVISIONS.c.number < below)
        query = query.order_by(REVISIONS.c.number.desc()).limit(limit)
        return [rows.to_revision(row) for row in await self._rows(query)]

    async def changes(self, after: int, limit: int) -> list[Change]:
        """Returns changes later than `after`, oldest first."""
        query = select(CHANGES).where(CHANGES.c.sequence > after)
        found = await self._rows(query.order_by(CHANGES.c.sequence).limit(limit))
        return [Change(row["sequence"], row["model_id"], ModelKind(row["kind"])) for row in found]

    async def reporters(self) -> list[Reporter]:
        """Returns every process that reported and was not forgotten."""
        query = select(REPORTERS).order_by(REPORTERS.c.service, REPORTERS.c.id)
        return [rows.to_reporter(row) for row in await self._rows(query)]

    async def observations(self, reporters: Sequence[str]) -> list[Observation]:
        """Returns what these processes reported."""
        found = await self._rows(_observed().where(OBSERVATIONS.c.reporter.in_(reporters)))
        return [rows.to_observation(row) for row in found]

    async def receipt(self, key: str) -> Receipt | None:
        """Returns what a repeatable call made."""
        found = await self._rows(select(RECEIPTS).where(RECEIPTS.c.key == key))
        return rows.to_receipt(found[0]) if found else None


class SqlWriting(SqlReading):
    """Reads and writes through one connection, which holds the writers' lock."""

    async def record(self, entry: Entry, now: datetime) -> int:
        """Counts a change of this model, made or about to be made, and returns its sequence."""
        run = self._execute
        sequence = await self.sequence() + 1
        await run(update(CATALOGUE).values(sequence=sequence))
        line = {
            "sequence": sequence,
            "model_id": entry.id,
            "kind": entry.kind.value,
            "time": now,
        }
        await run(insert(CHANGES).values(line))
        await run(update(MODELS).where(MODELS.c.id == entry.id).values(update_time=now))
        return sequence

    async def put(self, entry: Entry) -> None:
        """Adds or replaces a model, its aliases and, where it is new, its revision."""
        run = self._execute
        row = rows.entry_row(entry)
        updated = await run(update(MODELS).where(MODELS.c.id == entry.id).values(row))
        if updated.rowcount == 0:
            await run(insert(MODELS).values(row))
        known = select(REVISIONS.c.number).where(
            REVISIONS.c.model_id == entry.id, REVISIONS.c.number == entry.revision.number
        )
        if (await run(known)).first() is None:
            await run(insert(REVISIONS).values(rows.revision_row(entry.revision)))
        await run(delete(NAMES).where(NAMES.c.model_id == entry.id))
        names = [
            {"name": name, "model_id": entry.id, "position": position}
            for position, name in enumerate((entry.id, *entry.aliases))
        ]
        await run(insert(NAMES), names)

    async def remove(self, entry: Entry) -> None:
        """Removes a model and all that belongs to it."""
        await self._execute(delete(MODELS).where(MODELS.c.id == entry.id))

    async def next_revision(self, model_id: str) -> int:
        """Returns a number that no revision of this ID ever had, not even before a delete."""
        run = self._execute
        counter = COUNTERS.c.model_id == model_id
        last = (await run(select(COUNTERS.c.revision).where(counter))).scalar_one_or_none()
        if last is None:
            await run(insert(COUNTERS).values(model_id=model_id, revision=1))
            return 1
        await run(update(COUNTERS).where(counter).values(revision=last + 1))
        return last + 1

    async def report(self, reporter: Reporter, observations: Sequence[Observation]) -> None:
        """Replaces what a process reported, all of it of revisions that exist."""
        run = self._execute
        values = {
            "id": reporter.id,
            "service": reporter.service,
            "address": reporter.address,
            "report_time": reporter.report_time,
        }
        updated = await run(update(REPORTERS).where(REPORTERS.c.id == reporter.id).values(values))
        if updated.rowcount == 0:
            await run(insert(REPORTERS).values(values))
        await run(delete(OBSERVATIONS).where(OBSERVATIONS.c.reporter == reporter.id))
        if observations:
            await run(insert(OBSERVATIONS), [rows.observation_row(o) for o in observations])

    async def forget(self, reporters: Sequence[str], *, keep_reporters: bool) -> None:
        """Drops what these processes reported, and unless told otherwise the processes too."""
        run = self._execute
        await run(delete(OBSERVATIONS).where(OBSERVATIONS.c.reporter.in_(reporters)))
        if not keep_reporters:
            await run(delete(REPORTERS).where(REPORTERS.c.id.in_(reporters)))

    async def remember(self, receipt: Receipt) -> None:
        """Keeps what a repeatable call made."""
        values = {
            "key": receipt.key,
            "fingerprint": receipt.fingerprint,
            "uid": receipt.uid,
            "revision": receipt.revision,
            "create_time": receipt.create_time,
        }
        await self._execute(insert(RECEIPTS).values(values))

    async def compact(self, *, keep_changes: int, receipts_before: datetime) -> None:
        """Drops all but the last changes, and old receipts."""
        run = self._execute
        await run(delete(RECEIPTS).where(RECEIPTS.c.create_time < receipts_before))
        floor = await self.sequence() - keep_changes
        if floor > await self.floor():
            await run(delete(CHANGES).where(CHANGES.c.sequence <= floor))
            await run(update(CATALOGUE).values(floor=floor))


def _observed() -> Select[*tuple[object, ...]]:
    return select(OBSERVATIONS, REPORTERS.c.report_time).join(
        REPORTERS, REPORTERS.c.id == OBSERVATIONS.c.reporter
    )
