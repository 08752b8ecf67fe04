"""The schema: what `craft_gateway.store.tables` describes, and the team that always exists."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "20261130_1"
down_revision = None
branch_labels = None
depends_on = None

_RUNNING = sa.text("status = 'running'")
_NOT_ENDED = sa.text("ended_at IS NULL")
_NOT_SENT = sa.text("sent_at IS NULL")


def upgrade() -> None:
    """Create every table."""
    _team()
    _api_key()
    _artifact()
    _dataset()
    _job()
    _stage()
    _attempt()
    _team_share()
    _outbox()
    _stage_log()
    _event()
    _deployment()
    _publication()
    _webhook()
    _webhook_delivery()


def downgrade() -> None:
    """Drop every table: all data is lost."""
    for table in (
        *("webhook_delivery", "webhook", "publication", "deployment", "event", "stage_log", "outbox"),
        *("team_share", "attempt", "stage", "job", "dataset", "artifact", "api_key", "team"),
    ):
        op.drop_table(table)


def _time(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _team() -> None:
    team = op.create_table(
        "team",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("max_running_jobs", sa.Integer(), nullable=True),
        sa.Column("gpu_seconds_per_day", sa.Float(), nullable=True),
        _time("created_at"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.execute(sa.insert(team).values(name="default", weight=1.0, created_at=sa.func.current_timestamp()))


def _api_key() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=250), nullable=False),
        _time("created_at"),
        _time("expires_at", nullable=True),
        _time("revoked_at", nullable=True),
        _time("last_used_at", nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_api_key_team_id", "api_key", ["team", "id"])


def _artifact() -> None:
    op.create_table(
        "artifact",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("other_digests", sa.JSON(), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("key"),
    )


def _dataset() -> None:
    op.create_table(
        "dataset",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("statistics", sa.JSON(), nullable=False),
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=True),
        sa.Column("source", sa.JSON(), nullable=True),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("team", "content_hash", name="uq_dataset_team_content_hash"),
    )
    op.create_index("ix_dataset_created_at", "dataset", ["created_at"])
    op.create_index("ix_dataset_team_id", "dataset", ["team", "id"])
    op.create_index("ix_dataset_content_hash", "dataset", ["content_hash"])


def _job() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("task", sa.String(length=40), nullable=False),
        sa.Column("resolved", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("status_reason", sa.Text(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("estimate", sa.JSON(), nullable=True),
        sa.Column("percent", sa.Float(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("retry_of", sa.String(length=40), nullable=True),
        sa.Column("traceparent", sa.String(length=55), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("body_hash", sa.String(length=64), nullable=True),
        sa.Column("event_seq", sa.Integer(), nullable=False),
        sa.Column("log_seq", sa.Integer(), nullable=False),
        _time("created_at"),
        _time("updated_at"),
        _time("progress_at", nullable=True),
        _time("started_at", nullable=True),
        _time("finished_at", nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("idempotency_key", name="uq_job_idempotency_key"),
    )
    op.create_index("ix_job_status_id", "job", ["status", "id"])
    op.create_index("ix_job_created_at", "job", ["created_at"])
    op.create_index("ix_job_status_team", "job", ["status", "team"])
    op.create_index("ix_job_team_id", "job", ["team", "id"])


def _stage() -> None:
    op.create_table(
        "stage",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=150), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("queue", sa.String(length=40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("depends_on", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("environment_retries", sa.Integer(), nullable=False),
        sa.Column("recompute", sa.Boolean(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=True),
        sa.Column("device", sa.String(length=100), nullable=True),
        _time("lease_expires_at", nullable=True),
        _time("deadline_at", nullable=True),
        _time("not_before", nullable=True),
        _time("dispatch_at", nullable=True),
        sa.Column("key", sa.String(length=64), nullable=True),
        sa.Column("artifact_key", sa.String(length=64), nullable=True),
        sa.Column("artifact_digest", sa.String(length=64), nullable=True),
        sa.Column("reused", sa.Boolean(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        _time("created_at"),
        _time("ready_at", nullable=True),
        _time("started_at", nullable=True),
        _time("finished_at", nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "name", name="uq_stage_job_id_name"),
    )
    op.create_index("ix_stage_job_id_position", "stage", ["job_id", "position"])
    op.create_index("ix_stage_status_lease_expires_at", "stage", ["status", "lease_expires_at"])
    op.create_index("ix_stage_status_dispatch_at", "stage", ["status", "dispatch_at"])
    op.create_index("ix_stage_key_status", "stage", ["key", "status"])
    op.create_index("ix_stage_queue_status_team_rank_job_id", "stage", ["queue", "status", "team", "rank", "job_id"])
    op.create_index("ix_stage_artifact_key", "stage", ["artifact_key"])
    op.create_index(
        "uq_stage_running_key", "stage", ["key"], unique=True, sqlite_where=_RUNNING, postgresql_where=_RUNNING
    )


def _attempt() -> None:
    op.create_table(
        "attempt",
        sa.Column("stage_id", sa.String(length=40), nullable=False),
        sa.Column("fence", sa.Integer(), autoincrement=False, nullable=False),
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
        sa.Column("work", sa.JSON(), nullable=True),
        _time("started_at"),
        _time("ended_at", nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.ForeignKeyConstraint(["stage_id"], ["stage.id"]),
        sa.PrimaryKeyConstraint("stage_id", "fence"),
    )
    op.create_index("ix_attempt_job_id", "attempt", ["job_id"])
    op.create_index("ix_attempt_team_ended_at", "attempt", ["team", "ended_at"])
    op.create_index("ix_attempt_kind_ended_at", "attempt", ["kind", "ended_at"])
    op.create_index("ix_attempt_running", "attempt", ["queue"], sqlite_where=_NOT_ENDED, postgresql_where=_NOT_ENDED)


def _team_share() -> None:
    op.create_table(
        "team_share",
        sa.Column("queue", sa.String(length=40), nullable=False),
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("started", sa.Float(), nullable=False),
        sa.Column("finished", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("queue", "team"),
    )


def _outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("stage_id", sa.String(length=40), nullable=False),
        sa.Column("queue", sa.String(length=40), nullable=False),
        _time("created_at"),
        _time("due_at"),
        _time("leased_until", nullable=True),
        _time("sent_at", nullable=True),
        sa.ForeignKeyConstraint(["stage_id"], ["stage.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_outbox_unsent", "outbox", ["due_at", "id"], sqlite_where=_NOT_SENT, postgresql_where=_NOT_SENT)
    op.create_index("ix_outbox_stage_id", "outbox", ["stage_id"])
    op.create_index("ix_outbox_sent_at", "outbox", ["sent_at"])


def _stage_log() -> None:
    op.create_table(
        "stage_log",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stage_id", sa.String(length=40), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        _time("created_at"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.ForeignKeyConstraint(["stage_id"], ["stage.id"]),
        sa.PrimaryKeyConstraint("job_id", "seq"),
    )
    op.create_index("ix_stage_log_stage_id_seq", "stage_log", ["stage_id", "seq"])


def _event() -> None:
    op.create_table(
        "event",
        sa.Column("subject", sa.String(length=120), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("actor", sa.String(length=250), nullable=True),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("subject", "seq"),
    )
    op.create_index("ix_event_team_created_at", "event", ["team", "created_at"])


def _deployment() -> None:
    op.create_table(
        "deployment",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("strategy", sa.String(length=40), nullable=False),
        sa.Column("artifact_key", sa.String(length=64), nullable=False),
        sa.Column("artifact_digest", sa.String(length=64), nullable=False),
        sa.Column("base", sa.JSON(), nullable=False),
        _time("created_at"),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "strategy", name="uq_deployment_job_id_strategy"),
    )


def _publication() -> None:
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
        _time("due_at"),
        sa.Column("url", sa.String(length=1000), nullable=True),
        sa.Column("version", sa.String(length=200), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        _time("created_at"),
        _time("finished_at", nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_id", "strategy", "target_hash", name="uq_publication_job_id_strategy_target_hash"),
    )
    op.create_index("ix_publication_status_due_at", "publication", ["status", "due_at"])
    op.create_index("ix_publication_destination", "publication", ["destination"])
    op.create_index("ix_publication_artifact_key", "publication", ["artifact_key"])
    op.create_index("ix_publication_evaluation_key", "publication", ["evaluation_key"])


def _webhook() -> None:
    op.create_table(
        "webhook",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("types", sa.JSON(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("inactive_reason", sa.Text(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("old_secret", sa.Text(), nullable=True),
        _time("old_secret_until", nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        _time("failing_since", nullable=True),
        _time("last_delivered_at", nullable=True),
        sa.Column("created_by", sa.String(length=250), nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_webhook_team_id", "webhook", ["team", "id"])


def _webhook_delivery() -> None:
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("webhook_id", sa.String(length=40), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        _time("due_at"),
        _time("leased_until", nullable=True),
        _time("give_up_at"),
        _time("attempted_at", nullable=True),
        sa.Column("response_status", sa.Integer(), nullable=True),
        sa.Column("response_body", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        _time("created_at"),
        _time("ended_at", nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    for name, columns, condition in (
        ("ix_webhook_delivery_due", ["webhook_id", "due_at"], _NOT_ENDED),
        ("ix_webhook_delivery_unsent", ["created_at"], _NOT_ENDED),
        ("ix_webhook_delivery_webhook_id_id", ["webhook_id", "id"], None),
        ("ix_webhook_delivery_ended_at", ["ended_at"], None),
    ):
        op.create_index(name, "webhook_delivery", columns, sqlite_where=condition, postgresql_where=condition)
