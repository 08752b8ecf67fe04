"""Checkpoints on disk: a half-written one or one of another run is never resumed, but the one before it is."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from craft.contracts.stages.rows import CurveRow
from craft_training.tuning.checkpoints import CheckpointManifest, Checkpoints

FILES = {"adapter_model.safetensors": b"weights", "optimizer.pt": b"moments", "trainer_state.json": b"{}"}


def curve(steps: int) -> list[CurveRow]:
    return [
        CurveRow(step=step, epoch=1.0, loss=1.0 / step, learning_rate=0.1, gradient_norm=None, seconds=float(step))
        for step in range(1, steps + 1)
    ]


def written(checkpoints: Checkpoints, step: int) -> Path:
    """A folder as the Trainer writes it, with other bytes at each step."""
    folder = checkpoints.writing / f"checkpoint-{step}"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content + b" %d" % step)
    return folder


def saved(root: Path, *steps: int, fingerprint: str = "run") -> Checkpoints:
    """Checkpoints of all these steps, as a crash before the removal of the older ones leaves them."""
    checkpoints = Checkpoints(root, fingerprint=fingerprint)
    aside = root / "aside"
    aside.mkdir(exist_ok=True)
    for step in steps:
        folder = checkpoints.save(written(checkpoints, step), step=step, curve=curve(step))
        shutil.copytree(folder, aside / folder.name)
    for folder in aside.iterdir():
        shutil.copytree(folder, root / folder.name, dirs_exist_ok=True)
    shutil.rmtree(aside)
    return checkpoints


def latest_step(root: Path, fingerprint: str = "run") -> int | None:
    """The step from which a new attempt would resume."""
    found = Checkpoints(root, fingerprint=fingerprint).latest()
    return None if found is None else found[1].curve[-1].step


def test_a_saved_checkpoint_is_resumed_with_its_curve(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    found = Checkpoints(tmp_path, fingerprint="run").latest()
    assert found is not None
    folder, manifest = found
    assert manifest.curve == curve(3)
    assert (folder / "optimizer.pt").read_bytes() == b"moments 3"


def test_only_the_newest_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, fingerprint="run")
    for step in (2, 4):
        checkpoints.save(written(checkpoints, step), step=step, curve=curve(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "writing"]


def test_a_half_written_checkpoint_is_removed_and_the_one_before_is_resumed(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 3)
    written(checkpoints, 5)
    assert latest_step(tmp_path) == 3
    assert list((tmp_path / "writing").iterdir()) == []


def without_manifest(folder: Path) -> None:
    (folder / "sealed.json").unlink()


def with_half_a_manifest(folder: Path) -> None:
    manifest = folder / "sealed.json"
    manifest.write_bytes(manifest.read_bytes()[:40])


def without_a_file(folder: Path) -> None:
    (folder / "optimizer.pt").unlink()


def with_half_a_file(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(b"mom")


def with_other_bytes(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(b"stnemom 5")


def with_a_file_more(folder: Path) -> None:
    (folder / "scheduler.pt").write_bytes(b"cos\nsystem\n(S'touch canary'\ntR.")


def with_zeros(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    "harm",
    [
        without_manifest,
        with_half_a_manifest,
        without_a_file,
        with_half_a_file,
        with_other_bytes,
        with_a_file_more,
        with_zeros,
    ],
)
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    saved(tmp_path, 3, 5)
    assert latest_step(tmp_path) == 5
    harm(tmp_path / "step-00000005")
    assert latest_step(tmp_path) == 3


def test_a_checkpoint_of_another_run_is_not_resumed(tmp_path: Path) -> None:
    saved(tmp_path, 3, fingerprint="other data, or another version of a library")
    assert latest_step(tmp_path) is None


def test_the_manifest_has_every_files_digest(tmp_path: Path) -> None:
    saved(tmp_path, 3)
    manifest = CheckpointManifest.model_validate_json((tmp_path / "step-00000003" / "sealed.json").read_bytes())
    assert manifest.files == {name: hashlib.sha256(content + b" 3").hexdigest() for name, content in FILES.items()}
