"""Batches, and the parts of their results."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_TIMES = (
    "in_progress_time",
    "finalizing_time",
    "completed_time",
    "failed_time",
    "expired_time",
    "cancelling_time",
    "cancelled_time",
)


def upgrade() -> None:
    """Steps forward."""
    op.create_table(
        "training_batches",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("owner", _ID, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("outcome", sa.String(32), nullable=True),
        sa.Column("input_file", _ID, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("salt", sa.String(64), nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("completed", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("errors", sa.Text, nullable=False),
        sa.Column("output_file", _ID, nullable=False),
        sa.Column("error_file", _ID, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("expire_time", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=True) for name in _TIMES),
        sa.Column("done", sa.LargeBinary, nullable=False),
        sa.Column("lease_id", sa.String(64), nullable=True),
        sa.Column("lease_until", sa.BigInteger, nullable=True),
        sa.Column("part_count", sa.Integer, nullable=False),
        sa.Column("request_id", sa.Text, nullable=True),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.UniqueConstraint("owner", "request_id", name="training_batches_request"),
    )
    op.create_index("training_batches_owned", "training_batches", ["owner", "create_time", "id"])
    op.create_index("training_batches_listed", "training_batches", ["create_time", "id"])
    op.create_index("training_batches_state", "training_batches", ["state"])
    op.create_index("training_batches_input_file", "training_batches", ["input_file"])
    op.create_table(
        "training_batch_parts",
        sa.Column("file", _ID, primary_key=True),
        sa.Column("batch", _ID, sa.ForeignKey("training_batches.id"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("output_bytes", sa.BigInteger, nullable=False),
        sa.Column("error_bytes", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("batch", "number", name="training_batch_parts_number"),
    )


def downgrade() -> None:
    """Steps back."""
    for table in ("training_batch_parts", "training_batches"):
        op.drop_table(table)
