"""Tables of TrainingService.

Their names begin with `training_`, for services may share a database. IDs compare by code point on
every database, so that pages come in the same order.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Index,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
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


METADATA = MetaData()
VERSION_TABLE = "training_schema_version"
_ID = Text().with_variant(Text(collation="C"), "postgresql")

DRAFT = "draft"
"""State of a file that is being received."""
KEPT = "kept"
"""State of a file."""
REMOVED = "removed"
"""State of what is gone for callers, and whose blob has to be deleted before its row."""

FILES = Table(
    "training_files",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("owner", _ID, nullable=False),
    Column("state", String(8), nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=True),
    Column("touch_time", Instant, nullable=False),
    Column("request_id", Text, nullable=True),
    UniqueConstraint("owner", "request_id", name="training_files_request"),
    Index("training_files_owned", "owner", "create_time", "id"),
    Index("training_files_listed", "create_time", "id"),
    Index("training_files_state", "state", "touch_time"),
    Index("training_files_expire", "expire_time"),
)
