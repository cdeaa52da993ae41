"""API keys."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Steps forward."""
    feed = op.create_table(
        "model_key_feed",
        sa.Column("key", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "model_keys",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=True, unique=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("roles", sa.JSON, nullable=False),
        sa.Column("allowed_models", sa.JSON, nullable=False),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("tenants", sa.JSON, nullable=False),
        sa.Column("gel_user", sa.String(64), nullable=False),
        sa.Column("scram_verifier", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("expire_time", sa.BigInteger, nullable=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.create_index("model_keys_time", "model_keys", ["create_time", "id"])
    op.create_index("model_keys_sequence", "model_keys", ["sequence"])
    op.bulk_insert(feed, [{"key": 1, "sequence": 0}])


def downgrade() -> None:
    """Steps back."""
    op.drop_table("model_keys")
    op.drop_table("model_key_feed")
