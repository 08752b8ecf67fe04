"""The garbage collector's view of the artifact store, and the removal of folders."""

import os
from pathlib import Path

import pytest

from craft.contracts.stages.artifacts import ArtifactRef, StageResult
from craft.contracts.stages.kinds import StageKind
from craft.errors import NotFound
from craft.infra.storage.artifacts import FolderStore
from craft_gateway.retention.store import Area, ArtifactFolders, AttemptId, StoredFolder, folder_of

KEY = "a" * 64
STAGE_ID = "stg_01jgywz3x4v5q6r7s8t9vawbxc"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    FolderStore(tmp_path)
    return tmp_path


def publish(root: Path, text: str = "text", *, key: str = KEY) -> ArtifactRef:
    store = FolderStore(root)
    scratch = store.scratch("x")
    (scratch / "rows.jsonl").write_text(text)
    return store.publish(scratch, key=key, kind=StageKind.FLOW, parameters={}, inputs={}, result=StageResult()).ref


def names(store: ArtifactFolders, area: Area) -> list[str]:
    return sorted(folder.name for folder in store.folders(area))


def test_artifacts_and_checkpoints_tell_their_key(root: Path) -> None:
    ref = publish(root)
    FolderStore(root).checkpoint(KEY)
    store = ArtifactFolders(root)
    assert list(store.folders(Area.ARTIFACTS)) == [folder_of(ref)]
    assert [folder.key for area in Area for folder in store.folders(area)] == [KEY, KEY]


def test_scratch_tells_whose_it_is(root: Path) -> None:
    FolderStore(root).scratch(f"{STAGE_ID}-12")
    (folder,) = ArtifactFolders(root).folders(Area.SCRATCH)
    assert (folder.attempt, folder.key) == (AttemptId(STAGE_ID, 12), None)


def test_scratch_of_an_upload_is_of_no_stage(root: Path) -> None:
    FolderStore(root).scratch("dataset")
    (folder,) = ArtifactFolders(root).folders(Area.SCRATCH)
    assert folder.attempt is None


def test_files_strangers_and_trash_are_not_listed(root: Path) -> None:
    store = ArtifactFolders(root)
    store.trash(folder_of(publish(root)))
    for area in Area:
        (root / area.value / "lost+found").mkdir()
        (root / area.value / ("b" * 64)).write_text("a file")
    assert [names(store, area) for area in Area] == [[] for _ in Area]


def test_a_store_that_was_never_used_is_empty(tmp_path: Path) -> None:
    store = ArtifactFolders(tmp_path / "none")
    assert [names(store, area) for area in Area] == [[] for _ in Area]
    store.empty_trash()


def test_an_age_is_that_of_the_last_change_by_the_stores_own_clock(root: Path) -> None:
    store = ArtifactFolders(root)
    folder = folder_of(publish(root))
    path = root / "artifacts" / folder.name
    for entry in (*path.iterdir(), path):
        os.utime(entry, (1000.0, 1000.0))
    assert store.changed_at(folder) == 1000.0
    deep = path / "deep"
    deep.mkdir()
    os.utime(path, (1000.0, 1000.0))
    (deep / "file").write_text("0")
    os.utime(deep, (1000.0, 1000.0))
    changed_at = store.changed_at(folder)
    assert changed_at is not None
    # The host's clock does not count.
    assert 0.0 <= store.now() - changed_at < 60.0


def test_a_folder_that_is_gone_has_no_age_and_no_bytes(root: Path) -> None:
    store, gone = ArtifactFolders(root), StoredFolder(Area.CHECKPOINTS, KEY)
    assert (store.changed_at(gone), store.bytes_of(gone)) == (None, 0)
    store.trash(gone)


def test_bytes_are_those_of_all_files(root: Path) -> None:
    folder = FolderStore(root).checkpoint(KEY)
    (folder / "deep").mkdir()
    (folder / "one").write_bytes(b"12")
    (folder / "deep" / "two").write_bytes(b"345")
    assert ArtifactFolders(root).bytes_of(StoredFolder(Area.CHECKPOINTS, KEY)) == 5


def test_what_is_trashed_is_out_of_the_store_at_once_and_its_space_free_later(root: Path) -> None:
    store, ref = ArtifactFolders(root), publish(root)
    store.trash(folder_of(ref))
    with pytest.raises(NotFound):
        FolderStore(root).open(ref)
    (trash,) = (root / "tmp").glob("trash-*")
    assert (trash / "rows.jsonl").read_text() == "text"
    store.empty_trash()
    assert not trash.exists()


def test_what_was_trashed_can_be_published_again(root: Path) -> None:
    store, ref = ArtifactFolders(root), publish(root)
    store.trash(folder_of(ref))
    assert publish(root) == ref
    store.empty_trash()
    assert (FolderStore(root).open(ref) / "rows.jsonl").read_text() == "text"


def test_publishing_what_is_there_makes_it_young(root: Path) -> None:
    store, ref = ArtifactFolders(root), publish(root)
    path = root / "artifacts" / folder_of(ref).name
    for entry in (*path.iterdir(), path):
        os.utime(entry, (1000.0, 1000.0))
    assert publish(root) == ref
    changed_at = store.changed_at(folder_of(ref))
    assert changed_at is not None
    assert store.now() - changed_at < 60.0
    assert names(store, Area.SCRATCH) == []
