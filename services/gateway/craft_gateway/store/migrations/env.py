"""Alembic's entry: runs the migrations on the connection that `craft_gateway.store.schema` opened."""

from alembic import context
from sqlmodel import SQLModel

import craft_gateway.store.tables  # noqa: F401 - fills SQLModel.metadata, which autogenerate compares with

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    # SQLite cannot alter a table in place: Alembic then copies it.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
