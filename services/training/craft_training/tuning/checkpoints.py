"""Checkpoints of one training run. Each is whole or absent, and is resumed only where every byte is unchanged.

The Trainer writes to `<root>/writing/`. A finished checkpoint gets a manifest, `sealed.json` (each file's SHA-256 and
the run's fingerprint), is flushed and renamed to `<root>/step-<n>/`. torch reads its pickles with `weights_only`.
"""

import hashlib
import logging
import shutil
from pathlib import Path

from pydantic import ValidationError

from craft.contracts.base import Contract, Digest
from craft.contracts.stages.rows import CurveRow
from craft.infra.storage.artifacts import flush
from craft_training.tuning.passes import PassLimits

_MANIFEST = "sealed.json"
_log = logging.getLogger("craft.training")


class CheckpointManifest(Contract):
    """The content of `sealed.json`. `curve` is the run's curve so far, with that of earlier attempts.

    `limits` are those of the passes at its step: a resumed run does not run out of memory again to find them.
    """

    fingerprint: str
    files: dict[str, Digest]
    curve: list[CurveRow]
    limits: PassLimits | None = None


class Checkpoints:
    """The checkpoints below one root. Only those with this `fingerprint` of data, parameters and model are resumed."""

    def __init__(self, root: Path, *, fingerprint: str) -> None:
        self._root = root
        self._fingerprint = fingerprint
        self.writing = root / "writing"
        shutil.rmtree(self.writing, ignore_errors=True)
        self.writing.mkdir(parents=True)

    def save(self, written: Path, *, step: int, curve: list[CurveRow], limits: PassLimits | None = None) -> Path:
        """Make the folder `written` the newest checkpoint and drop the older ones. Returns its new path."""
        manifest = CheckpointManifest(
            fingerprint=self._fingerprint, files=_digests(written), curve=curve, limits=limits
        )
        (written / _MANIFEST).write_text(manifest.model_dump_json())
        for path in [*written.rglob("*"), written]:
            flush(path)
        older = self._folders()
        folder = self._root / f"step-{step:08d}"
        shutil.rmtree(folder, ignore_errors=True)
        written.rename(folder)
        flush(self._root)
        for old in older:
            if old != folder:
                shutil.rmtree(old, ignore_errors=True)
        return folder

    def latest(self) -> tuple[Path, CheckpointManifest] | None:
        """The newest whole checkpoint of this run; damaged ones and those of other runs are skipped."""
        for folder in reversed(self._folders()):
            manifest = _read_manifest(folder)
            if manifest and manifest.fingerprint == self._fingerprint and manifest.files == _digests(folder):
                return folder, manifest
            _log.warning("checkpoint_refused", extra={"folder": folder.name})
        return None

    def _folders(self) -> list[Path]:
        return sorted(path for path in self._root.glob("step-*") if path.is_dir())


def _read_manifest(folder: Path) -> CheckpointManifest | None:
    try:
        return CheckpointManifest.model_validate_json((folder / _MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _MANIFEST
    }
