"""Responses."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Steps forward."""
    op.create_table(
        "inference_responses",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("owner", _ID, nullable=False),
        sa.Column("previous", _ID, nullable=True),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("expire_time", sa.BigInteger, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("chain_bytes", sa.BigInteger, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_index("inference_responses_expire", "inference_responses", ["expire_time"])
    op.create_table(
        "inference_response_items",
        sa.Column(
            "response",
            _ID,
            sa.ForeignKey("inference_responses.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("answered", sa.Boolean, nullable=False),
        sa.Column("owner", _ID, nullable=False),
        sa.Column("item_id", _ID, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_index(
        "inference_response_items_found", "inference_response_items", ["owner", "item_id"]
    )


def downgrade() -> None:
    """Steps back."""
    op.drop_table("inference_response_items")
    op.drop_table("inference_responses")
