"""The index in Postgres: pgvector for vectors, and words by full-text search."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Float,
    Table,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, REAL, TSQUERY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex, DropTable

from services.errors import InvalidArgument
from services.retrieval.indexes.port import ChunkRow, Ranked, Scope, Space, Span
from services.retrieval.indexes.postgres_tables import (
    MOST_DIMENSIONS,
    OPERATORS,
    approximate,
    indexable,
    table_of,
)
from services.retrieval.indexes.postgres_types import HalfVectorColumn, VectorColumn
from services.retrieval.records import Metric, Vector

_FEWEST_INDEXED = 5000
"""Chunks from which on a collection gets an approximate index; comparing fewer is as fast."""
_ENOUGH = 4
"""Chunks, for each that is wanted, among which the best are looked for first."""
_BUILD = {"m": 16, "ef_construction": 64}
_EF = 100
"""Candidates that an approximate search weighs, at least."""
_MOST_EF = 1000
_MOST_TIMES = 255
"""How often a word is counted in a chunk: as often as Postgres keeps places of it."""
_K1, _B = 1.2, 0.75
_LEAST_WEIGHT = 1e-6
"""BM25, with the very numbers of SQLite's FTS5."""


class PostgresIndex:
    """See `services.retrieval.indexes.port`."""

    def __init__(self, fewest_indexed: int = _FEWEST_INDEXED) -> None:
        self._fewest_indexed = fewest_indexed

    def close(self) -> None:
        """Has nothing to let go of."""

    def chunks(self, space: Space) -> Table:
        """The table of a collection's chunks."""
        return table_of(space.key, space.dimensions)

    async def create(self, connection: AsyncConnection, space: Space) -> None:
        """Makes the table of a new collection."""
        if space.dimensions > MOST_DIMENSIONS:
            raise InvalidArgument(
                f"'collection.dimensions': Postgres keeps vectors of at most {MOST_DIMENSIONS} "
                "dimensions.",
                field="collection.dimensions",
            )
        await connection.run_sync(self.chunks(space).create, checkfirst=False)

    async def drop(self, connection: AsyncConnection, space: Space) -> None:
        """Drops a collection's table."""
        await connection.execute(DropTable(self.chunks(space)))

    async def remove(
        self, connection: AsyncConnection, space: Space, spans: Sequence[Span]
    ) -> None:
        """Removes chunks."""
        chunks = self.chunks(space)
        between = chunks.c.id.between(bindparam("from"), bindparam("to"))
        if spans:
            await connection.execute(
                delete(chunks).where(between),
                [{"from": span.first, "to": span.first + span.length - 1} for span in spans],
            )

    async def add(
        self, connection: AsyncConnection, space: Space, rows: Sequence[ChunkRow]
    ) -> None:
        """Adds chunks; makes the approximate index once there are enough."""
        if not rows:
            return
        await connection.execute(
            insert(self.chunks(space)),
            [
                {
                    "id": row.id,
                    "document": row.document,
                    "position": row.position,
                    "start_byte": row.start_byte,
                    "end_byte": row.end_byte,
                    "word_count": len(row.words),
                    "vector": row.vector,
                    "words": _tsvector(row.words),
                    "text": row.text,
                }
                for row in rows
            ],
        )
        if space.chunk_count >= self._fewest_indexed:
            index = approximate(space.key, space.dimensions, space.metric, **_BUILD)
            if index is not None:
                await connection.execute(CreateIndex(index, if_not_exists=True))

    async def nearest(
        self, connection: AsyncConnection, scope: Scope, vector: Vector, limit: int, *, exact: bool
    ) -> Sequence[Ranked]:
        """Returns the nearest chunks, nearest first."""
        space = scope.space
        nearest = _distance(self.chunks(space).c.vector, space, vector)
        if not exact and space.chunk_count >= self._fewest_indexed and vector.any():
            found = await self._approximately(connection, scope, vector, limit)
            if len(found) == limit:
                return found
        chunks, documents = self.chunks(space), scope.documents
        query = (
            select(chunks.c.id, chunks.c.document, nearest.label("distance"))
            .join(documents, documents.c.number == chunks.c.document)
            # By a label that is no plain distance: no approximate index is asked.
            .order_by("distance", documents.c.id, chunks.c.position)
            .limit(limit)
        )
        return [Ranked(*row) for row in await connection.execute(query)]

    async def _approximately(
        self, connection: AsyncConnection, scope: Scope, vector: Vector, limit: int
    ) -> Sequence[Ranked]:
        """Returns what the approximate index finds, which may be less than there is."""
        chunks, documents = self.chunks(scope.space), scope.documents
        indexed = indexable(chunks)
        if indexed is None:
            return []
        asked: ColumnElement[Any] = literal(vector, chunks.c.vector.type)
        if isinstance(indexed.type, HalfVectorColumn):
            asked = cast(cast(asked, chunks.c.vector.type), indexed.type)
        wanted = str(min(max(_EF, 2 * limit), _MOST_EF))
        await connection.execute(
            select(
                func.set_config("hnsw.ef_search", wanted, True),
                func.set_config("hnsw.iterative_scan", "strict_order", True),
            )
        )
        distance = indexed.op(OPERATORS[scope.space.metric], return_type=Float())(asked)
        query = select(chunks.c.id, chunks.c.document, distance.label("distance"))
        if scope.filtered:
            query = query.join(documents, documents.c.number == chunks.c.document)
        found = await connection.execute(query.order_by(distance).limit(limit))
        return [Ranked(*row) for row in found]

    async def matching(
        self, connection: AsyncConnection, scope: Scope, words: Sequence[str], limit: int
    ) -> Sequence[Ranked]:
        """Returns chunks with any of these words, best first by BM25."""
        space = scope.space
        counts = await self._counts(connection, space, words) if words else {}
        if not counts:
            return []
        weights = {word: _weight(space, count) for word, count in counts.items()}
        rarest = sorted(weights, key=lambda word: -weights[word])
        asked = 0
        while True:
            # Common words are in most chunks and say little. Chunks that have only such are left
            # out where even the best of them would not be among those wanted.
            reached = sum(counts[word] for word in rarest[:asked])
            while asked < len(rarest) and reached < _ENOUGH * limit:
                reached += counts[rarest[asked]]
                asked += 1
            query = _ranking(self.chunks(space), scope, weights, rarest[:asked], limit)
            found = [Ranked(*row) for row in await connection.execute(query)]
            rest = sum(weights[word] * (_K1 + 1) for word in rarest[asked:])
            if asked == len(rarest) or (len(found) == limit and found[-1].value > rest):
                return found
            asked += 1

    async def _counts(
        self, connection: AsyncConnection, space: Space, words: Sequence[str]
    ) -> dict[str, int]:
        """Returns in how many chunks each word is, of those that are there at all."""
        chunks = self.chunks(space)
        counts = [
            select(func.count())
            .select_from(chunks)
            .where(chunks.c.words.op("@@")(_tsquery(_quoted(word))))
            .scalar_subquery()
            for word in words
        ]
        row = (await connection.execute(select(*counts))).one()
        return {word: count for word, count in zip(words, row, strict=True) if count}


def _weight(space: Space, count: int) -> float:
    """Returns how much a word says: the fewer chunks have it, the more."""
    share = (space.chunk_count - count + 0.5) / (count + 0.5)
    return max(math.log(share), _LEAST_WEIGHT)


def _ranking(
    chunks: Table, scope: Scope, weights: Mapping[str, float], asked: Sequence[str], limit: int
) -> Executable:
    """Ranks chunks that have any of the words that are asked, by all words."""
    documents = scope.documents
    ones = cast(literal([1.0, 1.0, 1.0, 1.0], ARRAY(REAL)), ARRAY(REAL))
    any_word = _tsquery(" | ".join(_quoted(word) for word in asked))
    # With weights of 1, the rank of a single word is the number of times it is there.
    times = [func.ts_rank_cd(ones, chunks.c.words, _tsquery(_quoted(word))) for word in weights]
    counted = (
        select(
            chunks.c.id,
            chunks.c.document,
            chunks.c.position,
            chunks.c.word_count,
            *(cast(count, Float).label(f"times_{at}") for at, count in enumerate(times)),
        )
        .where(chunks.c.words.op("@@")(any_word))
        .subquery("counted")
    )
    mean = scope.space.word_count / scope.space.chunk_count
    length = _K1 * (1 - _B + _B * counted.c.word_count / literal(mean, Float))
    parts: list[ColumnElement[float]] = []
    for at, weight in enumerate(weights.values()):
        count = counted.c[f"times_{at}"]
        parts.append(literal(weight * (_K1 + 1), Float) * count / (count + length))
    score = reduce(add, parts).label("score")
    return (
        select(counted.c.id, counted.c.document, score)
        .join(documents, documents.c.number == counted.c.document)
        .order_by(score.desc(), documents.c.id, counted.c.position)
        .limit(limit)
    )


def _distance(column: ColumnElement[Any], space: Space, vector: Vector) -> ColumnElement[float]:
    """Returns the distance; a vector without direction is at right angles to all."""
    asked = literal(vector, VectorColumn(space.dimensions))
    distance = column.op(OPERATORS[space.metric], return_type=Float())(asked)
    none = 1.0 if space.metric is Metric.COSINE else float("inf")
    return case((distance == float("nan"), none), else_=distance)


def _tsvector(words: Sequence[str]) -> str:
    """Writes words as Postgres does, with as many places as each is there."""
    return " ".join(
        f"{_quoted(word)}:{','.join(str(place) for place in range(1, min(times, _MOST_TIMES) + 1))}"
        for word, times in Counter(words).items()
    )


def _tsquery(query: str) -> ColumnElement[Any]:
    return cast(literal(query, Text), TSQUERY)


def _quoted(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
