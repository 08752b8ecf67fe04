"""Teams and their shares, every attempt, traces, pins, retries; hints that one relay at a time sends."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_RUNNING = sa.text("ended_at IS NULL")


def upgrade() -> None:
    """Forwards. What exists belongs to the team that a system without teams has."""
    for table in ("job", "stage"):
        op.add_column(table, sa.Column("team", sa.String(length=100), nullable=False, server_default="default"))
    op.add_column("job", sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("job", sa.Column("retry_of", sa.String(length=40), nullable=True))
    op.add_column("job", sa.Column("traceparent", sa.String(length=55), nullable=True))
    op.add_column("stage", sa.Column("waits", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("stage", sa.Column("recompute", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("outbox", sa.Column("taken_until", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_job_status_team", "job", ["status", "team"])
    op.drop_index("ix_stage_queue_status_rank_ready_at", table_name="stage")
    op.create_index("ix_stage_queue_status_team_rank_job_id", "stage", ["queue", "status", "team", "rank", "job_id"])
    op.create_index("ix_stage_artifact_key", "stage", ["artifact_key"])
    op.create_table(
        "attempt",
        sa.Column("stage_id", sa.String(length=40), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("queue", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=False),
        sa.Column("device", sa.String(length=100), nullable=True),
        sa.Column("outcome", sa.String(length=40), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("waited_seconds", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.ForeignKeyConstraint(["stage_id"], ["stage.id"]),
        sa.PrimaryKeyConstraint("stage_id", "fence"),
    )
    op.create_index("ix_attempt_job_id", "attempt", ["job_id"])
    op.create_index("ix_attempt_team_ended_at", "attempt", ["team", "ended_at"])
    op.create_index("ix_attempt_kind_ended_at", "attempt", ["kind", "ended_at"])
    op.create_index("ix_attempt_running", "attempt", ["queue"], sqlite_where=_RUNNING, postgresql_where=_RUNNING)
    op.create_table(
        "team_share",
        sa.Column("queue", sa.String(length=40), nullable=False),
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("started", sa.Float(), nullable=False),
        sa.Column("finished", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "team"),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("team_share")
    op.drop_table("attempt")
    op.drop_index("ix_stage_artifact_key", table_name="stage")
    op.drop_index("ix_stage_queue_status_team_rank_job_id", table_name="stage")
    op.create_index("ix_stage_queue_status_rank_ready_at", "stage", ["queue", "status", "rank", "ready_at"])
    op.drop_index("ix_job_status_team", table_name="job")
    op.drop_column("outbox", "taken_until")
    for column in ("recompute", "waits", "team"):
        op.drop_column("stage", column)
    for column in ("traceparent", "retry_of", "pinned", "team"):
        op.drop_column("job", column)
