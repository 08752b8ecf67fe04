"""Artifacts are whole or absent, immutable, and named by their content."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from craft.contracts.stages.artifacts import ArtifactRef, Manifest, StageResult
from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.rows import FlowRow
from craft.errors import DiskFull, Internal, NotFound
from craft.infra.storage.artifacts import FolderStore, read_rows, write_rows

KEY = "a" * 64


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def publish(store: FolderStore, files: dict[str, str], *, key: str = KEY, seconds: int = 0) -> Manifest:
    scratch = store.scratch("stage/with odd..name")
    for name, text in files.items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_text(text)
    manifest = store.publish(
        scratch,
        key=key,
        kind=StageKind.FLOW,
        parameters={"kind": "flow"},
        inputs={},
        result=StageResult(counts={"seconds": seconds}),
    )
    assert not scratch.exists()
    return manifest


def contents(store_root: Path) -> set[str]:
    return {path.name for path in (store_root / "artifacts").iterdir()}


def test_a_published_artifact_can_be_opened_with_its_manifest(store: FolderStore) -> None:
    manifest = publish(store, {"rows.jsonl": "x\n", "deep/er/file": "y"})
    folder = store.open(manifest.ref)
    assert (folder / "deep" / "er" / "file").read_text() == "y"
    assert store.manifest(manifest.ref) == manifest
    assert [(file.path, file.bytes) for file in manifest.files] == [("deep/er/file", 1), ("rows.jsonl", 2)]
    assert manifest.kind is StageKind.FLOW


def test_the_digest_depends_on_names_and_bytes_only(store: FolderStore) -> None:
    digests = {
        publish(store, {"a": "1"}, seconds=1).digest,
        publish(store, {"a": "2"}).digest,
        publish(store, {"b": "1"}).digest,
        publish(store, {"a": "1"}, seconds=9).digest,
    }
    assert len(digests) == 3


def test_publishing_the_same_bytes_again_keeps_the_first(store: FolderStore, tmp_path: Path) -> None:
    first = publish(store, {"a": "1"}, seconds=1)
    second = publish(store, {"a": "1"}, seconds=2)
    assert first.ref == second.ref
    assert store.manifest(first.ref).result.counts == {"seconds": 1}
    assert len(contents(tmp_path / "store")) == 1
    assert list((tmp_path / "store" / "tmp").iterdir()) == []


def test_different_bytes_of_one_key_lie_beside_one_another(store: FolderStore, tmp_path: Path) -> None:
    one, two = publish(store, {"a": "1"}), publish(store, {"a": "2"})
    assert (store.open(one.ref) / "a").read_text() == "1"
    assert (store.open(two.ref) / "a").read_text() == "2"
    assert len(contents(tmp_path / "store")) == 2


def test_what_was_never_published_is_not_found(store: FolderStore) -> None:
    with pytest.raises(NotFound):
        store.open(ArtifactRef(key=KEY, digest="b" * 64))
    with pytest.raises(NotFound):
        store.manifest(ArtifactRef(key=KEY, digest="b" * 64))


def test_an_artifact_must_not_contain_a_link(store: FolderStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    scratch = store.scratch("x")
    (scratch / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(Internal):
        store.publish(scratch, key=KEY, kind="dataset", parameters={}, inputs={}, result=StageResult())
    assert contents(tmp_path / "store") == set()


def test_a_scratch_folder_is_new_empty_and_below_the_root(store: FolderStore, tmp_path: Path) -> None:
    folders = {store.scratch("../../etc/passwd") for _ in range(3)}
    assert len(folders) == 3
    for folder in folders:
        assert folder.resolve().parent == (tmp_path / "store" / "tmp").resolve()
        assert list(folder.iterdir()) == []


def test_a_checkpoint_folder_survives_and_is_shared_by_attempts(store: FolderStore) -> None:
    (store.checkpoint(KEY) / "step").write_text("5")
    assert (store.checkpoint(KEY) / "step").read_text() == "5"


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [FlowRow(id="é\u2028", correctness=0.5, certainty=-1.0), FlowRow(id="2", correctness=0.0, certainty=0.0)]
    assert write_rows(tmp_path / "rows.jsonl", rows) == 2
    assert list(read_rows(tmp_path / "rows.jsonl", FlowRow)) == rows


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    made = mount and os.geteuid() == 0 and not subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False, capture_output=True
    ).returncode  # fmt: skip
    if not made:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_an_error_of_its_own_and_leaves_no_partial_artifact(small_disk: Path) -> None:
    store = FolderStore(small_disk)
    scratch = store.scratch("x")
    (scratch / "a").write_text("1")
    with contextlib.suppress(OSError), (scratch / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
    with pytest.raises(DiskFull) as caught:
        store.publish(scratch, key=KEY, kind=StageKind.FLOW, parameters={}, inputs={}, result=StageResult())
    assert caught.value.retryable
    assert contents(small_disk) == set()
    shutil.rmtree(scratch)
    assert publish(store, {"a": "1"}).ref.key == KEY
