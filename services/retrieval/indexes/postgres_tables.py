"""Tables of a collection's chunks in Postgres."""

from functools import lru_cache
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    cast,
    event,
)
from sqlalchemy.dialects.postgresql import TSVECTOR

from services.retrieval.indexes.postgres_types import HalfVectorColumn, VectorColumn
from services.retrieval.records import Metric

MOST_DIMENSIONS = 16_000
"""Longest vectors that pgvector keeps."""
_MOST_INDEXED = 2000
_MOST_HALF_INDEXED = 4000
_MOST_INLINE = 1800
"""Longest vectors that fit into a page beside the other columns."""

OPERATORS = {Metric.COSINE: "<=>", Metric.INNER_PRODUCT: "<#>", Metric.L2: "<->"}
_CLASSES = {Metric.COSINE: "cosine", Metric.INNER_PRODUCT: "ip", Metric.L2: "l2"}


@lru_cache(maxsize=1024)
def table_of(key: int, dimensions: int) -> Table:
    """Returns the table of the collection with this key."""
    table = Table(
        f"retrieval_chunks_{key:d}",
        MetaData(),
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        Column("document", BigInteger, nullable=False),
        Column("position", Integer, nullable=False),
        Column("start_byte", BigInteger, nullable=False),
        Column("end_byte", BigInteger, nullable=False),
        Column("word_count", Integer, nullable=False),
        Column("vector", VectorColumn(dimensions), nullable=False),
        Column("words", TSVECTOR, nullable=False),
        Column("text", Text, nullable=False),
    )
    Index(f"retrieval_chunks_{key:d}_words", table.c.words, postgresql_using="gin")
    if dimensions <= _MOST_INLINE:
        # Kept in the row: comparing all vectors is several times faster so.
        inline = DDL("ALTER TABLE %(fullname)s ALTER COLUMN vector SET STORAGE PLAIN")
        event.listen(table, "after_create", inline)
    return table


def indexable(table: Table) -> ColumnElement[Any] | None:
    """Returns what an approximate index of a table is made of; None where there can't be one."""
    vector = table.c.vector
    dimensions = _dimensions(table)
    if dimensions <= _MOST_INDEXED:
        return vector
    if dimensions <= _MOST_HALF_INDEXED:
        return cast(vector, HalfVectorColumn(dimensions))
    return None


def approximate(key: int, dimensions: int, metric: Metric, **parameters: int) -> Index | None:
    """Returns the approximate index of a collection; None where there can't be one."""
    # A table of its own, for defining an index would add it to the shared one.
    table = table_of.__wrapped__(key, dimensions)
    indexed = indexable(table)
    if indexed is None:
        return None
    kind = "vector" if dimensions <= _MOST_INDEXED else "halfvec"
    return Index(
        f"retrieval_chunks_{key:d}_vector",
        indexed.label("indexed"),
        postgresql_using="hnsw",
        postgresql_with=parameters,
        postgresql_ops={"indexed": f"{kind}_{_CLASSES[metric]}_ops"},
    )


def _dimensions(table: Table) -> int:
    kind = table.c.vector.type
    assert isinstance(kind, VectorColumn)
    return kind.dimensions
