"""Tables of TrainingService.

Their names begin with `training_`, for services may share a database. IDs compare by code point on
every database, so that pages come in the same order.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
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
PART = "part"
"""State of what holds results of a batch, and nobody sees."""
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

JOBS = Table(
    "training_jobs",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("owner", _ID, nullable=False),
    Column("state", String(32), nullable=False),
    Column("requested_state", String(32), nullable=True),
    Column("checked", Boolean, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("model_id", _ID, nullable=False, unique=True),
    Column("training_file", _ID, nullable=True),
    Column("validation_file", _ID, nullable=True),
    Column("spec", Text, nullable=False),
    Column("effective", Text, nullable=True),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
    Column("start_time", Instant, nullable=True),
    Column("end_time", Instant, nullable=True),
    Column("estimated_end_time", Instant, nullable=True),
    Column("epoch", Float(53), nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("step_count", BigInteger, nullable=False),
    Column("trained_token_count", BigInteger, nullable=True),
    Column("metrics", Text, nullable=False),
    Column("result_files", Text, nullable=False),
    Column("error", Text, nullable=True),
    Column("restart_count", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("journal_offset", BigInteger, nullable=False),
    Column("event_count", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("request_id", Text, nullable=True),
    Column("request_hash", String(64), nullable=False),
    UniqueConstraint("owner", "request_id", name="training_jobs_request"),
    Index("training_jobs_owned", "owner", "create_time", "id"),
    Index("training_jobs_listed", "create_time", "id"),
    Index("training_jobs_state", "state"),
    Index("training_jobs_training_file", "training_file"),
    Index("training_jobs_validation_file", "validation_file"),
)

EVENTS = Table(
    "training_events",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("job", _ID, ForeignKey("training_jobs.id"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("level", String(8), nullable=False),
    Column("message", Text, nullable=False),
    Column("detail", Text, nullable=True),
    UniqueConstraint("job", "number", name="training_events_number"),
)

CHECKPOINTS = Table(
    "training_checkpoints",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("job", _ID, ForeignKey("training_jobs.id"), nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("epoch", Float(53), nullable=False),
    Column("metrics", Text, nullable=False),
    Column("model_id", _ID, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    UniqueConstraint("job", "step", name="training_checkpoints_step"),
    Index("training_checkpoints_listed", "job", "create_time", "id"),
)

BATCHES = Table(
    "training_batches",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("owner", _ID, nullable=False),
    Column("owner_standing", Text, nullable=False, server_default=""),
    Column("state", String(32), nullable=False),
    Column("outcome", String(32), nullable=True),
    Column("input_file", _ID, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("salt", String(64), nullable=False),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("errors", Text, nullable=False),
    Column("output_file", _ID, nullable=False),
    Column("error_file", _ID, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=False),
    Column("in_progress_time", Instant, nullable=True),
    Column("finalizing_time", Instant, nullable=True),
    Column("completed_time", Instant, nullable=True),
    Column("failed_time", Instant, nullable=True),
    Column("expired_time", Instant, nullable=True),
    Column("cancelling_time", Instant, nullable=True),
    Column("cancelled_time", Instant, nullable=True),
    Column("done", LargeBinary, nullable=False),
    Column("lease_id", String(64), nullable=True),
    Column("lease_until", Instant, nullable=True),
    Column("part_count", Integer, nullable=False),
    Column("request_id", Text, nullable=True),
    Column("request_hash", String(64), nullable=False),
    UniqueConstraint("owner", "request_id", name="training_batches_request"),
    Index("training_batches_owned", "owner", "create_time", "id"),
    Index("training_batches_listed", "create_time", "id"),
    Index("training_batches_state", "state"),
    Index("training_batches_input_file", "input_file"),
)

BATCH_PARTS = Table(
    "training_batch_parts",
    METADATA,
    Column("file", _ID, primary_key=True),
    Column("batch", _ID, ForeignKey("training_batches.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("output_bytes", BigInteger, nullable=False),
    Column("error_bytes", BigInteger, nullable=False),
    UniqueConstraint("batch", "number", name="training_batch_parts_number"),
)
