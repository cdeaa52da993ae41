"""Files."""

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
        "training_files",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("owner", _ID, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("mime_type", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("expire_time", sa.BigInteger, nullable=True),
        sa.Column("touch_time", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.Text, nullable=True),
        sa.UniqueConstraint("owner", "request_id", name="training_files_request"),
    )
    op.create_index("training_files_owned", "training_files", ["owner", "create_time", "id"])
    op.create_index("training_files_listed", "training_files", ["create_time", "id"])
    op.create_index("training_files_state", "training_files", ["state", "touch_time"])
    op.create_index("training_files_expire", "training_files", ["expire_time"])


def downgrade() -> None:
    """Steps back."""
    op.drop_table("training_files")
