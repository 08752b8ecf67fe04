"""A database that was lost beside artifacts is not made anew without a word."""

from pathlib import Path
from typing import Any

import pytest

from craft.contracts.stages.artifacts import StageResult
from craft.errors import Conflict
from craft.infra.settings.settings import Settings
from craft.infra.storage.artifacts import FolderStore
from craft.infra.storage.state_folder import check_database_present, exit_without_database, make_empty_database


def used(folder: Path, **settings: Any) -> Settings:
    """The settings of a state folder that holds an artifact, and no database."""
    made = Settings(state_dir=folder, **settings)
    store = FolderStore(made.resolved_artifacts_dir)
    scratch = store.scratch("dataset")
    (scratch / "rows").write_text("1")
    store.publish(scratch, key="a" * 64, kind="dataset", parameters={}, inputs={}, result=StageResult())
    return made


def test_a_missing_database_beside_artifacts_is_refused_with_what_to_do(tmp_path: Path) -> None:
    settings = used(tmp_path)
    with pytest.raises(Conflict, match=r"craft\.db is missing") as refused:
        check_database_present(settings)
    assert "--new-database" in (refused.value.hint or "")
    with pytest.raises(SystemExit, match=r"missing(.|\n)*restore a backup"):
        exit_without_database(settings)
    assert not (tmp_path / "craft.db").exists()


def test_a_new_state_folder_needs_no_database(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "new")
    check_database_present(settings)
    FolderStore(settings.resolved_artifacts_dir)
    check_database_present(settings)


def test_a_database_that_is_there_is_accepted_and_one_can_be_made(tmp_path: Path) -> None:
    settings = used(tmp_path)
    make_empty_database(settings)
    check_database_present(settings)
    (tmp_path / "craft.db").write_bytes(b"kept")
    make_empty_database(settings)
    assert (tmp_path / "craft.db").read_bytes() == b"kept"


def test_a_database_on_a_server_is_not_looked_for_in_the_folder(tmp_path: Path) -> None:
    settings = used(tmp_path, database_url="postgresql://someone@localhost/craft")
    check_database_present(settings)
    make_empty_database(settings)
    assert not (tmp_path / "craft.db").exists()
