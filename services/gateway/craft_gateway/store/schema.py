"""The database schema: create it, bring it up to date, undo it, check it."""

import logging
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from craft.errors import Conflict
from craft_gateway.store.database import Database
from craft_gateway.store.postgresql import without_statement_timeout

_MIGRATIONS = Path(__file__).parent / "migrations"
# Below this level it writes two lines at every readiness check.
logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)


def upgrade(database: Database, revision: str = "head") -> None:
    """Run every migration up to `revision`, in one transaction. A schema that is newer than the code stays as it is.

    Raises Conflict for a schema that no released version made.
    """
    if revision == "head" and is_current(database):
        return
    if strange := [each for each in _present(database) if each not in _known()]:
        raise Conflict(
            f"The database has the schema {strange[0]}, which no released version made.",
            hint="Stop all, remove the database (`.craft/craft.db`, or empty the PostgreSQL one) and start again.",
        )
    with database.writer.begin() as connection, without_statement_timeout(connection):
        command.upgrade(_config(connection), revision)


def upgrade_or_exit(database: Database) -> None:
    """`upgrade` for programs: a schema that cannot be used ends them with the reason and what to do, in words."""
    try:
        upgrade(database)
    except Conflict as error:
        sys.exit(f"{error.message}\n{error.hint}")


def downgrade(database: Database, revision: str = "base") -> None:
    """Undo migrations down to `revision`, in one transaction."""
    with database.writer.begin() as connection, without_statement_timeout(connection):
        command.downgrade(_config(connection), revision)


def is_current(database: Database) -> bool:
    """True if the schema is the newest that this code knows, or newer: migrations only add to what is there.

    So the old replicas work on during a rollout, and again after a rollback. Raises Unavailable.
    """
    present, known = _present(database), _known()
    # Revisions begin with their date, so a newer one sorts last.
    return bool(present) and all(revision >= max(known) for revision in present)


def is_ready(database: Database) -> bool:
    """True if this is the database that the process began with, and its schema is current. Raises Unavailable."""
    database.check_identity()
    return is_current(database)


def _present(database: Database) -> tuple[str, ...]:
    """The revisions of the database; none if it is empty."""
    with database.read() as session:
        return MigrationContext.configure(session.connection()).get_current_heads()


def _known() -> list[str]:
    """The revisions that this code has."""
    return [script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()]


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
