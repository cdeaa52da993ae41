"""The index in SQLite: exact search over vectors in memory, and FTS5 for words."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

import numpy as np
import orjson
from sqlalchemy import Table, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable

from services.retrieval.indexes.cache import MatrixCache
from services.retrieval.indexes.embedded_tables import CreateWords, tables_of
from services.retrieval.indexes.matrix import Matrix, Rows, View
from services.retrieval.indexes.port import ChunkRow, Ranked, Scope, Space, Span
from services.retrieval.records import Vector

_BATCH = 2048
"""Vectors that are read at once."""
_MOST_REMOVALS = 4096
"""Removals that are remembered; caches that missed more are made anew."""
_EVERYTHING = Span(0, 0)
"""Stands for removals that are not remembered one by one."""


class EmbeddedIndex:
    """See `services.retrieval.indexes.port`."""

    def __init__(self, cache_bytes: int) -> None:
        self._cache = MatrixCache(cache_bytes)
        # Two, so that a search of a large collection doesn't hold all others up.
        self._threads = ThreadPoolExecutor(2, "retrieval-search")

    def close(self) -> None:
        """Ends its threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def chunks(self, space: Space) -> Table:
        """The table of a collection's chunks."""
        return tables_of(space.key).chunks

    async def create(self, connection: AsyncConnection, space: Space) -> None:
        """Makes the tables of a new collection."""
        tables = tables_of(space.key)
        await connection.execute(CreateTable(tables.chunks))
        await connection.execute(CreateWords(tables.words))
        await connection.execute(CreateTable(tables.removals))
        for index in tables.removals.indexes:
            await connection.execute(CreateIndex(index))

    async def drop(self, connection: AsyncConnection, space: Space) -> None:
        """Drops a collection's tables."""
        for table in tables_of(space.key).all():
            await connection.execute(DropTable(table))
        self._cache.forget(space.key)

    async def remove(
        self, connection: AsyncConnection, space: Space, spans: Sequence[Span]
    ) -> None:
        """Removes chunks."""
        spans = _merged(spans)
        if not spans:
            return
        chunks, words, removals = tables_of(space.key)
        for first, length in spans:
            end = first + length - 1
            await connection.execute(delete(chunks).where(chunks.c.id.between(first, end)))
            await connection.execute(delete(words).where(words.c.rowid.between(first, end)))
        known = await connection.scalar(select(func.count()).select_from(removals)) or 0
        if known + len(spans) > _MOST_REMOVALS:
            await connection.execute(delete(removals))
            spans = [_EVERYTHING]
        await connection.execute(
            insert(removals),
            [
                {"sequence": space.sequence, "first": span.first, "count": span.length}
                for span in spans
            ],
        )

    async def add(
        self, connection: AsyncConnection, space: Space, rows: Sequence[ChunkRow]
    ) -> None:
        """Adds chunks."""
        if not rows:
            return
        chunks, words, _ = tables_of(space.key)
        await connection.execute(
            insert(chunks),
            [
                {
                    "id": row.id,
                    "document": row.document,
                    "position": row.position,
                    "start_byte": row.start_byte,
                    "end_byte": row.end_byte,
                    "vector": row.vector,
                    "text": row.text,
                }
                for row in rows
            ],
        )
        await connection.execute(
            insert(words), [{"rowid": row.id, "words": " ".join(row.words)} for row in rows]
        )

    async def nearest(
        self, connection: AsyncConnection, scope: Scope, vector: Vector, limit: int, *, exact: bool
    ) -> Sequence[Ranked]:
        """Returns the nearest chunks, nearest first; it is always exact."""
        space = scope.space
        if not space.chunk_count:
            return []
        allowed = await _allowed(connection, scope) if scope.filtered else None
        if self._cache.fits(space):

            async def bring(matrix: Matrix | None) -> Matrix:
                return await _brought(connection, space, matrix)

            view = await self._cache.view(space, bring)
            found = await self._search(view, scope, vector, limit, allowed)
        else:
            found = []
            async for batch in _batches(connection, space, 0):
                block = Matrix(space.dimensions, len(batch))
                _add(block, batch)
                found += await self._search(block.view(), scope, vector, limit, allowed)
                found = _shortest(found, limit)
        return await _in_order(connection, scope, found, limit)

    async def _search(
        self,
        view: View,
        scope: Scope,
        vector: Vector,
        limit: int,
        allowed: tuple[Rows, Rows] | None,
    ) -> list[Ranked]:
        def search() -> list[Ranked]:
            wanted = None if allowed is None else view.rows_of(*allowed)
            rows, distances = view.nearest(scope.space.metric, vector, limit, wanted)
            return [
                Ranked(*found)
                for found in zip(
                    view.ids[rows].tolist(),
                    view.documents[rows].tolist(),
                    distances.tolist(),
                    strict=True,
                )
            ]

        return await asyncio.get_running_loop().run_in_executor(self._threads, search)

    async def matching(
        self, connection: AsyncConnection, scope: Scope, words: Sequence[str], limit: int
    ) -> Sequence[Ranked]:
        """Returns chunks with any of these words, best first by BM25."""
        if not words:
            return []
        chunks, table, _ = tables_of(scope.space.key)
        documents = scope.documents
        # Quoted, a word is never an operator.
        query = " OR ".join(f'"{word}"' for word in words)
        found = await connection.execute(
            select(chunks.c.id, chunks.c.document, -table.c.rank)
            .select_from(table)
            .join(chunks, chunks.c.id == table.c.rowid)
            .join(documents, documents.c.number == chunks.c.document)
            .where(table.c.words.op("MATCH")(query))
            .order_by(table.c.rank, documents.c.id, chunks.c.position)
            .limit(limit)
        )
        return [Ranked(*row) for row in found]


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(span for span in spans if span.length):
        last = merged[-1] if merged else None
        if last is not None and last.first + last.length == span.first:
            merged[-1] = Span(last.first, last.length + span.length)
        else:
            merged.append(span)
    return merged


async def _allowed(connection: AsyncConnection, scope: Scope) -> tuple[Rows, Rows]:
    """Returns the chunks of the documents that are searched: first ones and counts."""
    columns = scope.documents.c
    # As lists in one row, which are read much faster than many rows.
    row = (
        await connection.execute(
            select(
                func.json_group_array(columns.first_chunk),
                func.json_group_array(columns.chunk_count),
            )
        )
    ).one()
    first, count = (np.asarray(orjson.loads(column), np.int64) for column in row)
    return first, count


async def _brought(connection: AsyncConnection, space: Space, matrix: Matrix | None) -> Matrix:
    """Returns the matrix at the state of the transaction."""
    if matrix is not None:
        removals = tables_of(space.key).removals
        removed = await connection.execute(
            select(removals.c.first, removals.c.count).where(removals.c.sequence > matrix.sequence)
        )
        spans = [Span(*row) for row in removed]
        if _EVERYTHING not in spans:
            added = [batch async for batch in _batches(connection, space, matrix.last)]
            matrix.remove(spans)
            for batch in added:
                _add(matrix, batch)
            return matrix
    matrix = Matrix(space.dimensions, space.chunk_count)
    async for batch in _batches(connection, space, 0):
        _add(matrix, batch)
    return matrix


async def _batches(
    connection: AsyncConnection, space: Space, after: int
) -> AsyncGenerator[Sequence[Any], None]:
    """Reads vectors in the order of their IDs."""
    chunks = tables_of(space.key).chunks
    while True:
        found = await connection.execute(
            select(chunks.c.id, chunks.c.document, chunks.c.vector)
            .where(chunks.c.id > after)
            .order_by(chunks.c.id)
            .limit(_BATCH)
        )
        batch = found.all()
        if batch:
            yield batch
            after = batch[-1].id
        if len(batch) < _BATCH:
            return


def _add(matrix: Matrix, batch: Sequence[Any]) -> None:
    ids, documents, vectors = zip(*batch, strict=True)
    matrix.add(ids, documents, vectors)


def _shortest(found: list[Ranked], limit: int) -> list[Ranked]:
    """Returns the nearest, and those level with the last."""
    found = sorted(found, key=lambda item: item.value)
    if len(found) <= limit:
        return found
    last = found[limit - 1].value
    return [item for item in found if item.value <= last]


async def _in_order(
    connection: AsyncConnection, scope: Scope, found: Sequence[Ranked], limit: int
) -> list[Ranked]:
    """Puts what is level into the order of documents and positions."""
    level = [list(group) for _, group in groupby(found, key=lambda item: item.value)]
    numbers = {item.document for group in level if len(group) > 1 for item in group}
    names = await _names(connection, scope, list(numbers))
    ordered = (
        item
        for group in level
        for item in sorted(group, key=lambda item: (names.get(item.document, ""), item.chunk))
    )
    return list(ordered)[:limit]


async def _names(
    connection: AsyncConnection, scope: Scope, numbers: Sequence[int]
) -> dict[int, str]:
    documents = scope.documents.c
    names: dict[int, str] = {}
    for at in range(0, len(numbers), _BATCH):
        found = await connection.execute(
            select(documents.number, documents.id).where(
                documents.number.in_(numbers[at : at + _BATCH])
            )
        )
        names.update((number, id) for number, id in found)
    return names
