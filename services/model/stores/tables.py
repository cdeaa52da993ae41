"""Tables of the catalogue.

Their names begin with `model_`, for services may share a database. IDs compare by code point on
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
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
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
VERSION_TABLE = "model_schema_version"
_ID = String(256).with_variant(String(256, collation="C"), "postgresql")


def _model_key(*, primary_key: bool = False) -> Column[str]:
    reference = ForeignKey("model_models.id", ondelete="CASCADE")
    return Column("model_id", _ID, reference, primary_key=primary_key, nullable=False)


CATALOGUE = Table(
    "model_catalogue",
    METADATA,
    Column("key", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("floor", BigInteger, nullable=False),
)
"""One row. Writers lock it, which makes them serial."""

MODELS = Table(
    "model_models",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("uid", String(36), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("owned_by", Text, nullable=False),
    Column("base_model", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("first_revision", BigInteger, nullable=False),
    Column("config", JSON, nullable=False),
    Column("config_version", BigInteger, nullable=False),
    Column("seed", Text, nullable=False),
    Column("stopped", Boolean, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("update_time", Instant, nullable=False),
)

NAMES = Table(
    "model_names",
    METADATA,
    Column("name", _ID, primary_key=True),
    _model_key(),
    Column("position", Integer, nullable=False),
    Index("model_names_model", "model_id"),
)
"""IDs (position 0) and aliases (from 1) in one table: a name leads to one model only."""

REVISIONS = Table(
    "model_revisions",
    METADATA,
    _model_key(primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("load_options", JSON, nullable=False),
    Column("create_time", Instant, nullable=False),
)

COUNTERS = Table(
    "model_counters",
    METADATA,
    Column("model_id", _ID, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)
"""Last revision of every ID there ever was, deleted models included."""

CHANGES = Table(
    "model_changes",
    METADATA,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("model_id", _ID, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("time", Instant, nullable=False),
)

REPORTERS = Table(
    "model_reporters",
    METADATA,
    Column("id", String(256), primary_key=True),
    Column("service", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("report_time", Instant, nullable=False),
)

OBSERVATIONS = Table(
    "model_observations",
    METADATA,
    Column(
        "reporter",
        String(256),
        ForeignKey("model_reporters.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    _model_key(primary_key=True),
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("progress", Float, nullable=False),
    Column("capabilities", JSON(none_as_null=True), nullable=True),
    Column("parameter_count", BigInteger, nullable=False),
    Column("template_name", Text, nullable=False),
    Column("address", Text, nullable=False),
    Index("model_observations_model", "model_id"),
)

RECEIPTS = Table(
    "model_receipts",
    METADATA,
    Column("key", String(64), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("uid", String(36), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("create_time", Instant, nullable=False),
    Index("model_receipts_time", "create_time"),
)


def _text(length: int) -> String:
    """A text that compares by code point on every database, so that sums come in one order."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


USAGE = Table(
    "model_usage",
    METADATA,
    Column("id", _text(64), primary_key=True),
    Column("principal", _text(256), nullable=False),
    Column("request_id", _text(128), nullable=False),
    Column("model", _text(256), nullable=False),
    Column("method", _text(256), nullable=False),
    Column("dialect", _text(32), nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("images", BigInteger, nullable=False),
    Column("queued_us", BigInteger, nullable=False),
    Column("ran_us", BigInteger, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("start_time", Instant, nullable=False),
    Column("end_user", Text, nullable=False),
    Index("model_usage_time", "start_time", "id"),
    Index("model_usage_principal", "principal", "start_time", "id"),
    Index("model_usage_request", "request_id"),
)
"""The usage ledger: one row a request."""

KEY_FEED = Table(
    "model_key_feed",
    METADATA,
    Column("key", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
)
"""One row: the number of the last change of a key. Writers of keys lock it."""

KEYS = Table(
    "model_keys",
    METADATA,
    Column("id", _text(64), primary_key=True),
    Column("sha256", String(64), nullable=True, unique=True),
    Column("display_name", Text, nullable=False),
    Column("roles", JSON, nullable=False),
    Column("allowed_models", JSON, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("tenants", JSON, nullable=False),
    Column("gel_user", String(64), nullable=False),
    Column("scram_verifier", Text, nullable=False),
    Column("create_time", Instant, nullable=False),
    Column("expire_time", Instant, nullable=True),
    Column("version", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Index("model_keys_time", "create_time", "id"),
    Index("model_keys_sequence", "sequence"),
)
"""API keys. Without `sha256` it is one that was revoked."""
