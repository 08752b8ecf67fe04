"""Datasets remember where they were fetched from, and how their columns were mapped."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forwards. The version before goes on writing to this schema while replicas are exchanged."""
    op.add_column("dataset", sa.Column("columns", sa.JSON(), nullable=True))
    op.add_column("dataset", sa.Column("source", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Back. Where datasets came from is lost; what they hold is not."""
    with op.batch_alter_table("dataset") as dataset:
        dataset.drop_column("source")
        dataset.drop_column("columns")
