"""The folder of all state on one machine: its database and its artifacts belong together."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from craft.errors import Conflict
from craft.infra.settings.settings import Settings

_SQLITE = "sqlite:///"


def database_file(settings: Settings) -> Path | None:
    """The file of a SQLite database; None where the settings name another database."""
    url = settings.resolved_database_url
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None


def check_database_present(settings: Settings) -> None:
    """Raises Conflict if the database is missing beside artifacts: it was lost, and an empty one would hide that."""
    file = database_file(settings)
    if file is None or file.exists() or not _holds_artifacts(settings.resolved_artifacts_dir):
        return
    raise Conflict(
        f"The database {file} is missing, and {settings.resolved_artifacts_dir} holds artifacts of its jobs.",
        hint="Put the database back, or restore a backup. To give up its jobs, datasets, teams and keys and begin "
        "with an empty database, start once with `craft up --new-database`.",
    )


def exit_without_database(settings: Settings) -> None:
    """`check_database_present` for programs: they end with the reason and what to do, in words."""
    try:
        check_database_present(settings)
    except Conflict as error:
        sys.exit(f"{error.message}\n{error.hint}")


def make_empty_database(settings: Settings) -> None:
    """Make the file of an empty SQLite database where there is none, so that the services begin with it."""
    file = database_file(settings)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)


def _holds_artifacts(folder: Path) -> bool:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder / "artifacts") as entries:
        return any(True for _ in entries)
    return False
