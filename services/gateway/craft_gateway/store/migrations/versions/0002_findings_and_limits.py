"""Columns that came after the first schema: what was found in data, limits of teams, kinds of artifacts."""

import sqlalchemy as sa
from alembic import op

revision = "20261130_2"
down_revision = "20261130_1"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("artifact", sa.Column("kind", sa.String(length=40), nullable=True))
    # From the stages, not from the manifests: PostgreSQL cannot read a manifest that holds a NUL character.
    op.execute(
        "UPDATE artifact SET kind = (SELECT stage.kind FROM stage WHERE stage.artifact_key = artifact.key LIMIT 1)"
    )
    op.add_column("stage", sa.Column("remakes", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("stage", "remakes")
    op.drop_column("artifact", "kind")
