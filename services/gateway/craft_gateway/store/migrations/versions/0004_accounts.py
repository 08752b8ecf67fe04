"""Teams and API keys are rows; datasets belong to teams; events say who caused them, and need not be a job's."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_DEFAULT = "default"


def upgrade() -> None:
    """Forwards. The version before goes on writing to this schema while replicas are exchanged."""
    team = op.create_table(
        "team",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.Column("max_running_jobs", sa.Integer(), nullable=True),
        sa.Column("gpu_seconds_per_day", sa.Float(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    now = sa.func.current_timestamp()
    names: sa.CompoundSelect[tuple[str]] = sa.union(
        sa.select(sa.literal(_DEFAULT)), sa.select(sa.column("team")).select_from(sa.table("job"))
    )
    named = names.subquery("named")
    rows = sa.select(named.c[0], sa.literal(1.0), now).distinct()
    op.execute(sa.insert(team).from_select(["name", "weight", "created_at"], rows))
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("team", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("secret_hash", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=250), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_api_key_team_id", "api_key", ["team", "id"])
    op.create_index("ix_job_team_id", "job", ["team", "id"])
    with op.batch_alter_table("dataset") as dataset:
        dataset.add_column(sa.Column("team", sa.String(length=100), nullable=False, server_default=_DEFAULT))
        dataset.drop_constraint("uq_dataset_content_hash", type_="unique")
        dataset.create_unique_constraint("uq_dataset_team_content_hash", ["team", "content_hash"])
        dataset.create_index("ix_dataset_team_id", ["team", "id"])
        dataset.create_index("ix_dataset_content_hash", ["content_hash"])
    with op.batch_alter_table("event", naming_convention=_NAMES) as event:
        event.add_column(sa.Column("team", sa.String(length=100), nullable=True))
        event.add_column(sa.Column("actor", sa.String(length=250), nullable=True))
        event.drop_constraint("event_job_id_fkey", type_="foreignkey")
        event.alter_column("job_id", type_=sa.String(length=120), existing_type=sa.String(length=40))
        event.create_index("ix_event_team_created_at", ["team", "created_at"])


_NAMES = {"fk": "%(table_name)s_%(column_0_name)s_fkey"}
"""PostgreSQL's own, which SQLite lacks."""


def downgrade() -> None:
    """Back. Events of what is no job, and the second copies of shared datasets, are lost."""
    op.execute("DELETE FROM event WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.id = event.job_id)")
    with op.batch_alter_table("event") as event:
        event.drop_index("ix_event_team_created_at")
        event.alter_column("job_id", type_=sa.String(length=40), existing_type=sa.String(length=120))
        event.create_foreign_key("event_job_id_fkey", "job", ["job_id"], ["id"])
        event.drop_column("actor")
        event.drop_column("team")
    op.execute(
        "DELETE FROM dataset WHERE EXISTS (SELECT 1 FROM dataset AS first"
        " WHERE first.content_hash = dataset.content_hash AND first.id < dataset.id)"
    )
    with op.batch_alter_table("dataset") as dataset:
        dataset.drop_index("ix_dataset_content_hash")
        dataset.drop_index("ix_dataset_team_id")
        dataset.drop_constraint("uq_dataset_team_content_hash", type_="unique")
        dataset.create_unique_constraint("uq_dataset_content_hash", ["content_hash"])
        dataset.drop_column("team")
    op.drop_index("ix_job_team_id", table_name="job")
    op.drop_index("ix_api_key_team_id", table_name="api_key")
    op.drop_table("api_key")
    op.drop_table("team")
