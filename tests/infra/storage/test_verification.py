"""Whoever opens an artifact gets the bytes that were published, or an error; what is damaged is set aside."""

import logging
import os
import shutil
from pathlib import Path

import pytest
from tests.infra.storage.damage import BREAKS, FILE, Break, flip_a_byte

from craft.contracts.stages.artifacts import ArtifactRef, StageResult
from craft.contracts.stages.kinds import StageKind
from craft.errors import ArtifactDamaged, NotFound, Unavailable
from craft.infra.storage import verification
from craft.infra.storage.artifacts import FolderStore, artifact_folder
from craft.infra.storage.verification import MANIFEST_FILE

KEY = "a" * 64
EVERY_BREAK = pytest.mark.parametrize("damage", BREAKS.values(), ids=BREAKS.keys())


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def publish(store: FolderStore, content: str = "one\ntwo\n") -> ArtifactRef:
    scratch = store.scratch("stage")
    (scratch / FILE).write_text(content)
    (scratch / "deep").mkdir()
    (scratch / "deep" / "weights").write_bytes(b"0123456789")
    result = StageResult(counts={"rows": 2})
    return store.publish(scratch, key=KEY, kind=StageKind.FLOW, parameters={}, inputs={}, result=result).ref


def folder_of(root: Path, ref: ArtifactRef) -> Path:
    return root / "artifacts" / artifact_folder(ref)


def quarantined(root: Path) -> list[Path]:
    return list((root / "quarantine").iterdir())


@pytest.fixture
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hashed is remembered once its files are 50 ms old."""
    monkeypatch.setattr(verification, "_SETTLED_NANOSECONDS", 50_000_000)


def wait_until_settled(root: Path) -> None:
    """Returns when the file system's clock has gone on, so that a later change has a later time."""
    probe = root / "tmp" / "probe"
    probe.touch()
    began = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns < began + 100_000_000:
        probe.touch()
    probe.unlink()


@EVERY_BREAK
def test_a_damaged_artifact_is_refused_and_set_aside(store: FolderStore, tmp_path: Path, damage: Break) -> None:
    ref = publish(store)
    damage(folder_of(tmp_path, ref), FILE)
    with pytest.raises(ArtifactDamaged, match="damaged") as refused:
        store.open(ref)
    assert "from_stage" in (refused.value.hint or "")
    assert not folder_of(tmp_path, ref).exists()
    [aside] = quarantined(tmp_path)
    assert aside.name.startswith(artifact_folder(ref))
    with pytest.raises(NotFound):
        store.open(ref)


@pytest.mark.usefixtures("remembering")
@EVERY_BREAK
def test_damage_that_comes_after_the_first_look_is_found(tmp_path: Path, damage: Break) -> None:
    store = FolderStore(tmp_path)
    ref = publish(store)
    wait_until_settled(tmp_path)
    store.open(ref)
    damage(folder_of(tmp_path, ref), FILE)
    assert not store.holds(ref)
    assert len(quarantined(tmp_path)) == 1


@EVERY_BREAK
def test_publishing_the_same_bytes_again_repairs_the_artifact(
    store: FolderStore, tmp_path: Path, damage: Break
) -> None:
    ref = publish(store)
    damage(folder_of(tmp_path, ref), FILE)
    assert publish(store) == ref
    assert (store.open(ref) / FILE).read_text() == "one\ntwo\n"
    assert len(quarantined(tmp_path)) == 1


@EVERY_BREAK
def test_a_damaged_artifact_counts_as_absent(store: FolderStore, tmp_path: Path, damage: Break) -> None:
    ref = publish(store)
    assert store.holds(ref)
    damage(folder_of(tmp_path, ref), FILE)
    assert not store.holds(ref)
    assert publish(store) == ref
    assert store.holds(ref)


def test_the_manifest_of_a_damaged_artifact_is_refused_by_what_names_and_sizes_show(
    store: FolderStore, tmp_path: Path
) -> None:
    ref = publish(store)
    assert store.manifest(ref).ref == ref
    (folder_of(tmp_path, ref) / MANIFEST_FILE).write_text("{}")
    with pytest.raises(ArtifactDamaged):
        store.manifest(ref)


def test_the_log_says_what_was_damaged_and_where_it_lies_now(
    store: FolderStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ref = publish(store)
    flip_a_byte(folder_of(tmp_path, ref), "deep/weights")
    with caplog.at_level(logging.ERROR, logger="craft.artifacts"):
        assert not store.holds(ref)
    [record] = caplog.records
    assert record.message == "artifact_damaged"
    assert "deep/weights" in vars(record)["damage"]
    assert Path(vars(record)["set_aside"]).is_dir()


@pytest.mark.usefixtures("remembering")
def test_an_artifact_is_hashed_once_until_it_changes(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    real = verification.sha256_of

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(verification, "sha256_of", counted)
    ref = publish(store)
    wait_until_settled(tmp_path)
    for _ in range(3):
        store.open(ref)
    assert sorted(hashed) == [FILE, "weights"]
    os.utime(folder_of(tmp_path, ref) / FILE)
    store.open(ref)
    assert sorted(hashed) == [FILE, FILE, "weights", "weights"]


def test_a_large_artifact_is_not_hashed_to_see_if_it_is_there(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    scratch = store.scratch("stage")
    with (scratch / FILE).open("wb") as file:
        file.truncate(257 * 2**20)
    ref = store.publish(scratch, key=KEY, kind=StageKind.FLOW, parameters={}, inputs={}, result=StageResult()).ref
    with (folder_of(tmp_path, ref) / FILE).open("r+b") as file:
        file.write(b"x")
    assert store.holds(ref)
    with pytest.raises(ArtifactDamaged, match="other bytes"):
        store.open(ref)
    assert not store.holds(ref)


def test_an_artifact_of_an_older_version_has_no_checksum_of_its_manifest(store: FolderStore, tmp_path: Path) -> None:
    ref = publish(store)
    (folder_of(tmp_path, ref) / "manifest.sha256").unlink()
    assert store.holds(ref)


def test_what_is_removed_while_it_is_looked_at_is_not_found(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = publish(store)

    def removes(path: Path) -> str:
        shutil.rmtree(folder_of(tmp_path, ref))
        raise FileNotFoundError(path)

    monkeypatch.setattr(verification, "sha256_of", removes)
    with pytest.raises(NotFound):
        store.open(ref)


def test_a_disk_that_cannot_be_read_is_no_damage(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = publish(store)

    def fails(path: Path) -> str:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(verification, "sha256_of", fails)
    with pytest.raises(Unavailable, match="Input/output error"):
        store.open(ref)
    with pytest.raises(Unavailable):
        store.holds(ref)
    assert folder_of(tmp_path, ref).is_dir()
    assert quarantined(tmp_path) == []
