"""Jobs keep their estimates, attempts what their time depended on, and adapters are published elsewhere."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forwards. The version before goes on writing to this schema while replicas are exchanged."""
    op.add_column("job", sa.Column("estimate", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("attempt", sa.Column("work", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "publication",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("strategy", sa.String(length=40), nullable=False),
        sa.Column("target", sa.JSON(), nullable=False),
        sa.Column("target_hash", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=300), nullable=False),
        sa.Column("artifact_key", sa.String(length=64), nullable=False),
        sa.Column("artifact_digest", sa.String(length=64), nullable=False),
        sa.Column("evaluation_key", sa.String(length=64), nullable=False),
        sa.Column("evaluation_digest", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("url", sa.String(length=1000), nullable=True),
        sa.Column("version", sa.String(length=200), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "strategy", "target_hash", name="uq_publication_job_id_strategy_target_hash"),
    )
    op.create_index("ix_publication_status_due_at", "publication", ["status", "due_at"])
    op.create_index("ix_publication_destination", "publication", ["destination"])
    op.create_index("ix_publication_artifact_key", "publication", ["artifact_key"])
    op.create_index("ix_publication_evaluation_key", "publication", ["evaluation_key"])


def downgrade() -> None:
    """Back. What is published stays where it is; that it was is forgotten."""
    op.drop_table("publication")
    op.drop_column("attempt", "work")
    op.drop_column("job", "estimate")
