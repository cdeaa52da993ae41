"""The catalogue: models, revisions, names, changes, reports."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.String(256).with_variant(sa.String(256, collation="C"), "postgresql")
_TABLES = (
    "model_receipts",
    "model_observations",
    "model_reporters",
    "model_changes",
    "model_counters",
    "model_revisions",
    "model_names",
    "model_models",
    "model_catalogue",
)


def _model_key(*, primary_key: bool = False) -> sa.Column[str]:
    reference = sa.ForeignKey("model_models.id", ondelete="CASCADE")
    return sa.Column("model_id", _ID, reference, primary_key=primary_key, nullable=False)


def upgrade() -> None:
    """Steps forward."""
    catalogue = op.create_table(
        "model_catalogue",
        sa.Column("key", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("floor", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "model_models",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("uid", sa.String(36), nullable=False, unique=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("owned_by", sa.Text, nullable=False),
        sa.Column("base_model", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("first_revision", sa.BigInteger, nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("config_version", sa.BigInteger, nullable=False),
        sa.Column("seed", sa.Text, nullable=False),
        sa.Column("stopped", sa.Boolean, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "model_names",
        sa.Column("name", _ID, primary_key=True),
        _model_key(),
        sa.Column("position", sa.Integer, nullable=False),
    )
    op.create_index("model_names_model", "model_names", ["model_id"])
    op.create_table(
        "model_revisions",
        _model_key(primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("load_options", sa.JSON, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "model_counters",
        sa.Column("model_id", _ID, primary_key=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "model_changes",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("model_id", _ID, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "model_reporters",
        sa.Column("id", sa.String(256), primary_key=True),
        sa.Column("service", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("report_time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "model_observations",
        sa.Column(
            "reporter",
            sa.String(256),
            sa.ForeignKey("model_reporters.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        _model_key(primary_key=True),
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("capabilities", sa.JSON, nullable=True),
        sa.Column("parameter_count", sa.BigInteger, nullable=False),
        sa.Column("template_name", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
    )
    op.create_index("model_observations_model", "model_observations", ["model_id"])
    op.create_table(
        "model_receipts",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("uid", sa.String(36), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    op.create_index("model_receipts_time", "model_receipts", ["create_time"])
    # A catalogue that is made anew counts on from a number that no earlier one reached, so that a
    # watcher of the earlier one gets a snapshot when it resumes.
    start = time.time_ns() // 1_000_000
    op.bulk_insert(catalogue, [{"key": 1, "sequence": start, "floor": start}])


def downgrade() -> None:
    """Steps back."""
    for table in _TABLES:
        op.drop_table(table)
