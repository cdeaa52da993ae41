"""Tables of RetrievalService; chunks are in those of `services.retrieval.indexes`.

Their names begin with `retrieval_`, for services may share a database. IDs compare by code point on
every database, so that pages come in the same order.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(TypeDecorator[datetime]):
    """An instant, kept as microseconds since 1970: the same on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Converts to what the database keeps."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Converts from what the database keeps."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class Span(TypeDecorator[timedelta]):
    """A length of time, kept as microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> Any:
        """Converts to what the database keeps."""
        return None if value is None else value // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> timedelta | None:
        """Converts from what the database keeps."""
        return None if value is None else timedelta(microseconds=value)


METADATA = MetaData()
VERSION_TABLE = "retrieval_schema_version"
_ID = Text().with_variant(Text(collation="C"), "postgresql")
_JSON = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# SQLite gives out numbers by itself only for a column of this very type.
_KEY = BigInteger().with_variant(Integer, "sqlite")


def _collection_key(name: str = "collection") -> Column[int]:
    reference = ForeignKey("retrieval_collections.key", ondelete="CASCADE")
    return Column(name, BigInteger, reference, primary_key=True, autoincrement=False)


COLLECTIONS = Table(
    "retrieval_collections",
    METADATA,
    Column("key", _KEY, primary_key=True, autoincrement=True),
    Column("tenant", _ID, nullable=False),
    Column("id", _ID, nullable=False),
    Column("uid", Text, nullable=False, unique=True),
    Column("embedding_model", Text, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("metric", Integer, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("chunking", _JSON, nullable=False),
    Column("properties", _JSON, nullable=False),
    Column("metadata", _JSON, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=True),
    Column("expire_after", Span, nullable=True),
    Column("etag", Text, nullable=False),
    Column("request_id", Text, nullable=True),
    Column("document_count", BigInteger, nullable=False),
    Column("chunk_count", BigInteger, nullable=False),
    Column("word_count", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("last_document", BigInteger, nullable=False),
    Column("last_chunk", BigInteger, nullable=False),
    UniqueConstraint("tenant", "id", name="retrieval_collections_id"),
    UniqueConstraint("tenant", "request_id", name="retrieval_collections_request"),
    Index("retrieval_collections_listed", "tenant", "create_time", "id"),
    Index("retrieval_collections_expire", "expire_time"),
    sqlite_autoincrement=True,
)
"""Keys are never used again. Who writes documents locks the row, and counts on from `last_…`."""

SEARCHES = Table(
    "retrieval_searches",
    METADATA,
    _collection_key(),
    Column("time", Instant, nullable=False),
)
"""When collections were last searched; apart, so that a search waits for no writer."""

DOCUMENTS = Table(
    "retrieval_documents",
    METADATA,
    _collection_key(),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("id", _ID, nullable=False),
    Column("first_chunk", BigInteger, nullable=False),
    Column("chunk_count", Integer, nullable=False),
    Column("title", _ID, nullable=False),
    Column("source_uri", _ID, nullable=False),
    Column("properties", _JSON, nullable=False),
    Column("keys", _JSON, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("content_sha256", Text, nullable=False),
    Column("token_count", BigInteger, nullable=False),
    Column("word_count", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    UniqueConstraint("collection", "id", name="retrieval_documents_id"),
    Index("retrieval_documents_listed", "collection", "create_time", "id"),
)

TEXTS = Table(
    "retrieval_texts",
    METADATA,
    Column("collection", BigInteger, primary_key=True, autoincrement=False),
    Column("document", BigInteger, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    ForeignKeyConstraint(
        ["collection", "document"],
        ["retrieval_documents.collection", "retrieval_documents.number"],
        ondelete="CASCADE",
    ),
)
"""Texts of documents; apart, so that filters don't read past them."""

PROMPTS = Table(
    "retrieval_prompts",
    METADATA,
    Column("tenant", _ID, primary_key=True),
    Column("id", _ID, primary_key=True),
    Column("uid", Text, nullable=False),
    Column("messages", _JSON, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("etag", Text, nullable=False),
    Column("builtin", Boolean, nullable=False),
    UniqueConstraint("tenant", "uid", name="retrieval_prompts_uid"),
)
