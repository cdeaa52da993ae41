"""Jobs, their events and checkpoints."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Steps forward."""
    op.create_table(
        "training_jobs",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("owner", _ID, nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("requested_state", sa.String(32), nullable=True),
        sa.Column("checked", sa.Boolean, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("model_id", _ID, nullable=False, unique=True),
        sa.Column("training_file", _ID, nullable=True),
        sa.Column("validation_file", _ID, nullable=True),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("effective", sa.Text, nullable=True),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("start_time", sa.BigInteger, nullable=True),
        sa.Column("end_time", sa.BigInteger, nullable=True),
        sa.Column("estimated_end_time", sa.BigInteger, nullable=True),
        sa.Column("epoch", sa.Float(53), nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("step_count", sa.BigInteger, nullable=False),
        sa.Column("trained_token_count", sa.BigInteger, nullable=True),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("result_files", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=True),
        sa.Column("restart_count", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("journal_offset", sa.BigInteger, nullable=False),
        sa.Column("event_count", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.Text, nullable=True),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.UniqueConstraint("owner", "request_id", name="training_jobs_request"),
    )
    op.create_index("training_jobs_owned", "training_jobs", ["owner", "create_time", "id"])
    op.create_index("training_jobs_listed", "training_jobs", ["create_time", "id"])
    op.create_index("training_jobs_state", "training_jobs", ["state"])
    op.create_index("training_jobs_training_file", "training_jobs", ["training_file"])
    op.create_index("training_jobs_validation_file", "training_jobs", ["validation_file"])
    op.create_table(
        "training_events",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("job", _ID, sa.ForeignKey("training_jobs.id"), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("level", sa.String(8), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=True),
        sa.UniqueConstraint("job", "number", name="training_events_number"),
    )
    op.create_table(
        "training_checkpoints",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("job", _ID, sa.ForeignKey("training_jobs.id"), nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.Float(53), nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("model_id", _ID, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("job", "step", name="training_checkpoints_step"),
    )
    op.create_index(
        "training_checkpoints_listed", "training_checkpoints", ["job", "create_time", "id"]
    )


def downgrade() -> None:
    """Steps back."""
    for table in ("training_checkpoints", "training_events", "training_jobs"):
        op.drop_table(table)
