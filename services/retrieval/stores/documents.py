"""Documents, in SQL."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import bindparam, delete, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import NotFound
from services.retrieval.indexes.port import ChunkRow, Index, Span
from services.retrieval.records import (
    Document,
    Filter,
    Fingerprint,
    NewDocument,
    Outcome,
    Page,
)
from services.retrieval.stores import rows
from services.retrieval.stores.collections import Clock, SqlCollections
from services.retrieval.stores.conditions import Conditions
from services.retrieval.stores.database import Database
from services.retrieval.stores.drafts import Draft, described, drafted
from services.retrieval.stores.paging import paged
from services.retrieval.stores.tables import COLLECTIONS, DOCUMENTS, TEXTS

_MANY = 1000
"""IDs in one query."""
_C = DOCUMENTS.c


class SqlDocuments:
    """Keeps documents with their chunks."""

    def __init__(
        self, database: Database, index: Index, collections: SqlCollections, clock: Clock
    ) -> None:
        self._database = database
        self._index = index
        self._collections = collections
        self._clock = clock

    async def fingerprints(self, uid: str, ids: Sequence[str]) -> Mapping[str, Fingerprint]:
        """What is stored of these documents."""
        async with self._database.reading() as connection:
            collection = await self._collections.by_uid(connection, uid)
            found = await _named(connection, collection["key"], ids)
        return {id: rows.to_fingerprint(row) for id, row in found.items()}

    async def put_documents(self, uid: str, documents: Sequence[NewDocument]) -> Sequence[Outcome]:
        """Stores documents with their chunks, all in one transaction."""
        async with self._database.reading() as connection:
            dimensions = (await self._collections.by_uid(connection, uid))["dimensions"]

        def draft() -> list[Draft]:
            return [
                drafted(document, dimensions, f"documents[{at}]")
                for at, document in enumerate(documents)
            ]

        drafts = await asyncio.to_thread(draft)
        async with self._database.writing() as connection:
            collection = await self._collections.by_uid(connection, uid, lock=True)
            ids = [document.id for document in documents]
            known = await _named(connection, collection["key"], ids)
            await self._put(connection, collection, drafts, known)
        return [
            Outcome.REPLACED if document.id in known else Outcome.CREATED for document in documents
        ]

    async def _put(
        self,
        connection: AsyncConnection,
        collection: rows.Row,
        drafts: Sequence[Draft],
        known: Mapping[str, rows.Row],
    ) -> None:
        now, key = self._clock(), collection["key"]
        number, chunk = collection["last_document"], collection["last_chunk"] + 1
        added: list[dict[str, Any]] = []
        replaced: list[dict[str, Any]] = []
        texts: list[dict[str, Any]] = []
        chunks: list[ChunkRow] = []
        for draft in drafts:
            row: dict[str, Any] = draft.values | {
                "collection": key,
                "first_chunk": chunk,
                "update_time": now,
            }
            old = known.get(draft.document.id)
            if old is None:
                number += 1
                row |= {"number": number, "create_time": now}
                added.append(row)
            else:
                row |= {"number": old["number"]}
                replaced.append(row)
            texts.append(
                {"collection": key, "document": row["number"], "text": draft.document.text}
            )
            chunks += draft.rows(row["number"], chunk)
            chunk += len(draft.document.chunks)
        run = connection.execute
        if replaced:
            await run(_replacing(replaced[0]), [_prefixed(row) for row in replaced])
            await _delete_texts(connection, key, [row["number"] for row in replaced])
        if added:
            await run(insert(DOCUMENTS), added)
        if texts:
            await run(insert(TEXTS), texts)
        counts = _counts(collection, removed=known.values(), added=[*added, *replaced])
        counts |= {"last_document": number, "last_chunk": chunk - 1}
        await self._changed(connection, collection, counts, known.values(), chunks)

    async def _changed(
        self,
        connection: AsyncConnection,
        collection: rows.Row,
        counts: Mapping[str, int],
        removed: Sequence[rows.Row] | Any,
        added: Sequence[ChunkRow],
    ) -> None:
        """Ends a change of documents: counts it, and tells the index."""
        values = {"sequence": collection["sequence"] + 1, **counts}
        now = self._clock()
        noted: dict[str, Any] = {"update_time": now}
        if collection["expire_after"] is not None:
            noted["expire_time"] = rows.expiry(collection["expire_after"], now)
        await connection.execute(
            update(COLLECTIONS)
            .where(COLLECTIONS.c.key == collection["key"])
            .values(**noted, **values)
        )
        space = rows.to_space({**collection, **values})
        spans = [Span(row["first_chunk"], row["chunk_count"]) for row in removed]
        await self._index.remove(connection, space, [span for span in spans if span.length])
        await self._index.add(connection, space, added)

    async def update_documents(self, uid: str, documents: Mapping[str, Fingerprint]) -> None:
        """Replaces what is said of documents whose content is the same."""
        now = self._clock()
        async with self._database.writing() as connection:
            collection = await self._collections.by_uid(connection, uid, lock=True)
            changed = [
                _prefixed(
                    described(fingerprint, f"documents[{at}]")
                    | {"collection": collection["key"], "id": id, "update_time": now}
                )
                for at, (id, fingerprint) in enumerate(documents.items())
            ]
            if not changed:
                return
            # Whose content changed meanwhile was put in anew, and that says more.
            same = (
                _C.collection == bindparam("v_collection"),
                _C.id == bindparam("v_id"),
                _C.content_sha256 == bindparam("v_content_sha256"),
            )
            columns = ("title", "source_uri", "mime_type", "properties", "keys", "update_time")
            values: dict[str, Any] = {name: bindparam(f"v_{name}") for name in columns}
            await connection.execute(update(DOCUMENTS).where(*same).values(values), changed)
            await self._changed(connection, collection, {}, (), ())

    async def document(self, uid: str, id: str) -> Document:
        """Gets one, with its text."""
        query = select(DOCUMENTS, TEXTS.c.text).join(TEXTS).where(_C.id == id)
        async with self._database.reading() as connection:
            collection = await self._collections.by_uid(connection, uid)
            query = query.where(_C.collection == collection["key"])
            row = (await connection.execute(query)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"There is no document {id!r}.", metadata={"document": id})
        return rows.to_document(row, row["text"])

    async def documents(self, uid: str, page: Page, *, with_text: bool) -> Sequence[Document]:
        """Lists a collection's."""
        text = TEXTS.c.text if with_text else literal("")
        query = select(DOCUMENTS, text.label("text"))
        if with_text:
            query = query.join(TEXTS)
        async with self._database.reading() as connection:
            collection = await self._collections.by_uid(connection, uid)
            within = _C.collection == collection["key"]
            query = await paged(connection, query.where(within), page, DOCUMENTS, within)
            found = (await connection.execute(query)).mappings().all()
        return [rows.to_document(row, row["text"]) for row in found]

    async def delete_documents(
        self, uid: str, *, ids: Sequence[str] = (), filter: Filter | None = None
    ) -> int:
        """Deletes by ID or by filter, all or none."""
        async with self._database.writing() as connection:
            collection = await self._collections.by_uid(connection, uid, lock=True)
            key = collection["key"]
            found = list((await _named(connection, key, ids)).values())
            if filter is not None:
                schemas = rows.schemas_of(collection)
                condition = Conditions(schemas, postgres=self._database.postgres).of(filter)
                query = select(DOCUMENTS).where(_C.collection == key, condition)
                found = (await connection.execute(query)).mappings().all()
            if not found:
                return 0
            for some in _batches([row["number"] for row in found]):
                named = (_C.collection == key, _C.number.in_(some))
                await connection.execute(delete(DOCUMENTS).where(*named))
            counts = _counts(collection, removed=found, added=())
            await self._changed(connection, collection, counts, found, ())
            return len(found)


def _counts(
    collection: rows.Row, *, removed: Sequence[rows.Row] | Any, added: Sequence[rows.Row]
) -> dict[str, int]:
    """Returns the counts of a collection after a change."""

    def now(name: str, of: str) -> int:
        change = sum(row[of] for row in added) - sum(row[of] for row in removed)
        return collection[name] + change

    return {
        "document_count": collection["document_count"] + len(added) - len(removed),
        "chunk_count": now("chunk_count", "chunk_count"),
        "word_count": now("word_count", "word_count"),
        "size_bytes": now("size_bytes", "size_bytes"),
    }


def _prefixed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Names values so that they don't clash with columns."""
    return {f"v_{name}": value for name, value in row.items()}


def _replacing(row: Mapping[str, Any]) -> Any:
    values: dict[str, Any] = {
        name: bindparam(f"v_{name}") for name in row if name not in {"collection", "number", "id"}
    }
    named = (_C.collection == bindparam("v_collection"), _C.number == bindparam("v_number"))
    return update(DOCUMENTS).where(*named).values(values)


async def _delete_texts(connection: AsyncConnection, key: int, numbers: Sequence[int]) -> None:
    for some in _batches(numbers):
        named = (TEXTS.c.collection == key, TEXTS.c.document.in_(some))
        await connection.execute(delete(TEXTS).where(*named))


async def _named(connection: AsyncConnection, key: int, ids: Sequence[str]) -> dict[str, rows.Row]:
    """Returns rows of DOCUMENTS by ID."""
    found: dict[str, rows.Row] = {}
    for some in _batches(ids):
        query = select(DOCUMENTS).where(_C.collection == key, _C.id.in_(some))
        found |= {row["id"]: row for row in (await connection.execute(query)).mappings()}
    return found


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    rest = iter(items)
    while some := list(islice(rest, _MANY)):
        yield some
