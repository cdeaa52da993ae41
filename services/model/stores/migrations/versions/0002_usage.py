"""The usage ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _text(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Steps forward."""
    op.create_table(
        "model_usage",
        sa.Column("id", _text(64), primary_key=True),
        sa.Column("principal", _text(256), nullable=False),
        sa.Column("request_id", _text(128), nullable=False),
        sa.Column("model", _text(256), nullable=False),
        sa.Column("method", _text(256), nullable=False),
        sa.Column("dialect", _text(32), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("images", sa.BigInteger, nullable=False),
        sa.Column("queued_us", sa.BigInteger, nullable=False),
        sa.Column("ran_us", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.SmallInteger, nullable=False),
        sa.Column("start_time", sa.BigInteger, nullable=False),
        sa.Column("end_user", sa.Text, nullable=False),
    )
    op.create_index("model_usage_time", "model_usage", ["start_time", "id"])
    op.create_index("model_usage_principal", "model_usage", ["principal", "start_time", "id"])
    op.create_index("model_usage_request", "model_usage", ["request_id"])


def downgrade() -> None:
    """Steps back."""
    op.drop_table("model_usage")
