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
    _add_lease_columns()
    op.add_column("team", sa.Column("gpu_seconds_per_job", sa.Float(), nullable=True))
    op.add_column("team", sa.Column("max_unfinished_jobs", sa.Integer(), nullable=True, server_default="1000"))
    op.add_column("dataset", sa.Column("findings", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("dataset", "findings")
    op.drop_column("team", "max_unfinished_jobs")
    op.drop_column("team", "gpu_seconds_per_job")
    op.drop_column("stage", "remakes")
    op.drop_column("artifact", "kind")
    _drop_lease_columns()


def _add_lease_columns() -> None:
    # With defaults of the database's own, because replicas of the version before go on inserting without them.
    for name in ("lost_attempts", "furthest_done"):
        op.add_column("stage", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    op.add_column("stage", sa.Column("unheard", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("stage", sa.Column("heard_by", sa.String(length=40), nullable=True))
    op.create_table(
        "coordinator_pulse",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def _drop_lease_columns() -> None:
    op.drop_table("coordinator_pulse")
    for name in ("heard_by", "unheard", "furthest_done", "lost_attempts"):
        op.drop_column("stage", name)
