"""Collections, documents, prompts. Chunks get tables with their collection."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_JSON = sa.JSON().with_variant(JSONB(), "postgresql")
_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_TABLES = (
    "retrieval_prompts",
    "retrieval_texts",
    "retrieval_documents",
    "retrieval_searches",
    "retrieval_collections",
)


def _collection_key() -> sa.Column[int]:
    reference = sa.ForeignKey("retrieval_collections.key", ondelete="CASCADE")
    return sa.Column("collection", sa.BigInteger, reference, primary_key=True, autoincrement=False)


def upgrade() -> None:
    """Steps forward."""
    op.create_table(
        "retrieval_collections",
        sa.Column("key", _KEY, primary_key=True, autoincrement=True),
        sa.Column("tenant", _ID, nullable=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("uid", sa.Text, nullable=False, unique=True),
        sa.Column("embedding_model", sa.Text, nullable=False),
        sa.Column("dimensions", sa.Integer, nullable=False),
        sa.Column("metric", sa.Integer, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("chunking", _JSON, nullable=False),
        sa.Column("properties", _JSON, nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("expire_time", sa.BigInteger, nullable=True),
        sa.Column("expire_after", sa.BigInteger, nullable=True),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=True),
        sa.Column("document_count", sa.BigInteger, nullable=False),
        sa.Column("chunk_count", sa.BigInteger, nullable=False),
        sa.Column("word_count", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("last_document", sa.BigInteger, nullable=False),
        sa.Column("last_chunk", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("tenant", "id", name="retrieval_collections_id"),
        sa.UniqueConstraint("tenant", "request_id", name="retrieval_collections_request"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "retrieval_collections_listed", "retrieval_collections", ["tenant", "create_time", "id"]
    )
    op.create_index("retrieval_collections_expire", "retrieval_collections", ["expire_time"])
    op.create_table(
        "retrieval_searches",
        _collection_key(),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "retrieval_documents",
        _collection_key(),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", _ID, nullable=False),
        sa.Column("first_chunk", sa.BigInteger, nullable=False),
        sa.Column("chunk_count", sa.Integer, nullable=False),
        sa.Column("title", _ID, nullable=False),
        sa.Column("source_uri", _ID, nullable=False),
        sa.Column("properties", _JSON, nullable=False),
        sa.Column("keys", _JSON, nullable=False),
        sa.Column("mime_type", sa.Text, nullable=False),
        sa.Column("content_sha256", sa.Text, nullable=False),
        sa.Column("token_count", sa.BigInteger, nullable=False),
        sa.Column("word_count", sa.BigInteger, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("collection", "id", name="retrieval_documents_id"),
    )
    op.create_index(
        "retrieval_documents_listed", "retrieval_documents", ["collection", "create_time", "id"]
    )
    op.create_table(
        "retrieval_texts",
        sa.Column("collection", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("document", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(
            ["collection", "document"],
            ["retrieval_documents.collection", "retrieval_documents.number"],
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "retrieval_prompts",
        sa.Column("tenant", _ID, primary_key=True),
        sa.Column("id", _ID, primary_key=True),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("messages", _JSON, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("builtin", sa.Boolean, nullable=False),
        sa.UniqueConstraint("tenant", "uid", name="retrieval_prompts_uid"),
    )


def downgrade() -> None:
    """Steps back. Tables of chunks stay behind."""
    for table in _TABLES:
        op.drop_table(table)
