"""What owners of batches may do who have no key."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Steps forward."""
    op.add_column(
        "training_batches",
        sa.Column("owner_standing", sa.Text, nullable=False, server_default=""),
    )


def downgrade() -> None:
    """Steps back."""
    op.drop_column("training_batches", "owner_standing")
