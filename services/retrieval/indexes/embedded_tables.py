"""Tables of a collection's chunks in SQLite."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.types import TypeDecorator

from services.retrieval.records import Vector


class VectorBlob(TypeDecorator[Vector]):
    """A vector as little-endian float32 bytes."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: Vector | None, dialect: Dialect) -> Any:
        """Converts to what the database keeps."""
        return None if value is None else value.astype("<f4", copy=False).tobytes()

    def process_result_value(self, value: Any, dialect: Dialect) -> Vector | None:
        """Converts from what the database keeps."""
        return None if value is None else np.frombuffer(value, "<f4")


class EmbeddedTables(NamedTuple):
    """Tables of one collection."""

    chunks: Table
    words: Table
    """FTS5, a row for each chunk."""
    removals: Table
    """Chunks that were removed, for caches to catch up."""

    def all(self) -> tuple[Table, ...]:
        """All of them."""
        return self.chunks, self.words, self.removals


@lru_cache(maxsize=1024)
def tables_of(key: int) -> EmbeddedTables:
    """Returns the tables of the collection with this key."""
    metadata = MetaData()
    chunks = Table(
        f"retrieval_chunks_{key:d}",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("document", BigInteger, nullable=False),
        Column("position", Integer, nullable=False),
        Column("start_byte", BigInteger, nullable=False),
        Column("end_byte", BigInteger, nullable=False),
        Column("vector", VectorBlob, nullable=False),
        Column("text", Text, nullable=False),
    )
    words = Table(
        f"retrieval_words_{key:d}",
        metadata,
        Column("rowid", Integer, primary_key=True),
        Column("words", Text),
        Column("rank", Float),
    )
    removals = Table(
        f"retrieval_removals_{key:d}",
        metadata,
        Column("sequence", BigInteger, nullable=False),
        Column("first", BigInteger, nullable=False),
        Column("count", BigInteger, nullable=False),
    )
    Index(f"retrieval_removals_{key:d}_sequence", removals.c.sequence)
    return EmbeddedTables(chunks, words, removals)


class CreateWords(ExecutableDDLElement):
    """Makes an FTS5 table."""

    inherit_cache = False

    def __init__(self, table: Table) -> None:
        self.table = table


@compiles(CreateWords, "sqlite")
def _create_words(element: CreateWords, compiler: Any, **_: Any) -> str:
    # The words are split already: only blanks, which are ASCII, part them. It keeps its own copy of
    # them, since deleting a row takes exactly the words that it was made from.
    name = compiler.preparer.format_table(element.table)
    return f"CREATE VIRTUAL TABLE {name} USING fts5(words, tokenize = 'ascii')"
