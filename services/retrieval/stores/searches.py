"""Searches, in SQL."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import InvalidArgument
from services.retrieval.indexes.fusion import filled, filled_by_both
from services.retrieval.indexes.metrics import precise, score_of_distance, score_of_words
from services.retrieval.indexes.port import Index, Moved, Ranked, Scope
from services.retrieval.indexes.words import query_words
from services.retrieval.records import Collection, Hit, Lookup, SearchMode, Vector
from services.retrieval.stores import rows
from services.retrieval.stores.collections import SqlCollections
from services.retrieval.stores.conditions import Conditions
from services.retrieval.stores.database import Database
from services.retrieval.stores.drafts import check_vector
from services.retrieval.stores.properties import properties_of
from services.retrieval.stores.tables import DOCUMENTS

_C = DOCUMENTS.c


class SqlSearches:
    """Finds passages."""

    def __init__(self, database: Database, index: Index, collections: SqlCollections) -> None:
        self._database = database
        self._index = index
        self._collections = collections

    async def search(self, collection: Collection, lookup: Lookup) -> Sequence[Hit]:
        """Finds passages, best first; see `services.retrieval.store`."""
        if lookup.vector is not None:
            check_vector(lookup.vector, collection.dimensions, "vector")
        elif lookup.mode is not SearchMode.TEXT:
            raise InvalidArgument("'query': this mode needs a vector.", field="query")
        while True:
            try:
                async with self._database.reading() as connection:
                    return await self._found(connection, collection.uid, lookup)
            except Moved:
                continue

    async def _found(self, connection: AsyncConnection, uid: str, lookup: Lookup) -> Sequence[Hit]:
        row = await self._collections.by_uid(connection, uid)
        query = select(_C.number, _C.id, _C.first_chunk, _C.chunk_count).where(
            _C.collection == row["key"]
        )
        if lookup.filter is not None:
            schemas = rows.schemas_of(row)
            conditions = Conditions(schemas, postgres=self._database.postgres)
            query = query.where(conditions.of(lookup.filter))
        scope = Scope(rows.to_space(row), query.subquery("scope"), lookup.filter is not None)
        ranked = await self._ranked(connection, scope, lookup)
        return await self._hits(connection, scope, lookup, ranked)

    async def _ranked(
        self, connection: AsyncConnection, scope: Scope, lookup: Lookup
    ) -> Sequence[Ranked]:
        words = query_words(lookup.text)

        async def nearest(limit: int) -> Sequence[Ranked]:
            assert lookup.vector is not None
            return await self._index.nearest(
                connection, scope, lookup.vector, limit, exact=lookup.exact
            )

        async def matching(limit: int) -> Sequence[Ranked]:
            return await self._index.matching(connection, scope, words, limit)

        most = lookup.max_hits_per_document
        match lookup.mode:
            case SearchMode.VECTOR:
                return await filled(nearest, lookup.top_k, most)
            case SearchMode.TEXT:
                return await filled(matching, lookup.top_k, most)
            case SearchMode.HYBRID:
                return await filled_by_both(nearest, matching, lookup.top_k, most)

    async def _hits(
        self, connection: AsyncConnection, scope: Scope, lookup: Lookup, ranked: Sequence[Ranked]
    ) -> list[Hit]:
        if not ranked:
            return []
        chunks = self._index.chunks(scope.space)
        columns: list[Any] = [
            chunks.c.id.label("chunk"),
            chunks.c.position,
            chunks.c.text,
            chunks.c.start_byte,
            chunks.c.end_byte,
            _C.id,
            _C.title,
            _C.properties,
            _C.source_uri,
        ]
        if lookup.include_vectors or lookup.vector is not None:
            columns.append(chunks.c.vector)
        query = (
            select(*columns)
            .join(DOCUMENTS, _C.number == chunks.c.document)
            .where(
                _C.collection == scope.space.key, chunks.c.id.in_([item.chunk for item in ranked])
            )
        )
        found = {row["chunk"]: row for row in (await connection.execute(query)).mappings()}
        hits = [_hit(scope, lookup, item, found[item.chunk]) for item in ranked]
        if lookup.mode is SearchMode.VECTOR:
            # An index may have compared with less precision.
            hits.sort(key=lambda hit: (hit.distance, hit.document, hit.chunk_index))
        return hits


def _hit(scope: Scope, lookup: Lookup, item: Ranked, row: rows.Row) -> Hit:
    vector: Vector | None = row.get("vector")
    metric = scope.space.metric
    distance = None
    if lookup.vector is not None and vector is not None:
        distance = float(precise(metric, vector[None, :], lookup.vector)[0])
    match lookup.mode:
        case SearchMode.VECTOR:
            assert distance is not None
            score = score_of_distance(metric, distance)
        case SearchMode.TEXT:
            score = score_of_words(item.value)
        case SearchMode.HYBRID:
            score = item.value
    return Hit(
        document=row["id"],
        chunk_index=row["position"],
        text=row["text"],
        distance=distance,
        score=score,
        title=row["title"],
        properties=properties_of(row["properties"]),
        source_uri=row["source_uri"],
        start_byte=row["start_byte"],
        end_byte=row["end_byte"],
        vector=vector if lookup.include_vectors else None,
    )
