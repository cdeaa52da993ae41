"""Tables of ResponseService.

Their names begin with `inference_`, for services may share a database. IDs compare by code point
on every database. Times are microseconds since 1970.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

METADATA = MetaData()
VERSION_TABLE = "inference_schema_version"
_ID = Text().with_variant(Text(collation="C"), "postgresql")

RESPONSES = Table(
    "inference_responses",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("owner", _ID, nullable=False),
    Column("previous", _ID, nullable=True),
    Column("create_time", BigInteger, nullable=False),
    Column("expire_time", BigInteger, nullable=False),
    Column("turn", Integer, nullable=False),
    Column("chain_bytes", BigInteger, nullable=False),
    Column("content", Text, nullable=False),
    Index("inference_responses_expire", "expire_time"),
)
"""`turn` and `chain_bytes` count the responses of the chain up to this one, and the bytes of their
items."""

ITEMS = Table(
    "inference_response_items",
    METADATA,
    Column(
        "response", _ID, ForeignKey("inference_responses.id", ondelete="CASCADE"), primary_key=True
    ),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("answered", Boolean, nullable=False),
    Column("owner", _ID, nullable=False),
    Column("item_id", _ID, nullable=False),
    Column("content", Text, nullable=False),
    Index("inference_response_items_found", "owner", "item_id"),
)
"""Input first, then what was answered."""
