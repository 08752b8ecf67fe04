"""Checkpoints of one training run: whole or absent, and resumed only where every byte is what was written.

`<root>/writing/` is where the Trainer writes; a finished checkpoint gets `sealed.json` (each file's SHA-256 and the
run's fingerprint), is flushed and renamed to `<root>/step-<n>/`. Its pickles are read by torch with `weights_only`.
"""

import hashlib
import logging
import shutil
from pathlib import Path

from pydantic import ValidationError

from craft.contracts.base import Contract, Digest
from craft.contracts.stages.rows import CurveRow
from craft.infra.storage.artifacts import flush

_SEAL = "sealed.json"
_log = logging.getLogger("craft.training")


class CheckpointManifest(Contract):
    """What makes a folder a checkpoint of ours. `curve` is the run's so far, earlier attempts included."""

    fingerprint: str
    files: dict[str, Digest]
    curve: list[CurveRow]


class Checkpoints:
    """The checkpoints below one root. `fingerprint` names data, parameters and model: another run's are not taken."""

    def __init__(self, root: Path, *, fingerprint: str) -> None:
        self._root = root
        self._fingerprint = fingerprint
        self.writing = root / "writing"
        shutil.rmtree(self.writing, ignore_errors=True)
        self.writing.mkdir(parents=True)

    def seal(self, written: Path, *, step: int, curve: list[CurveRow]) -> Path:
        """Make what the Trainer wrote the newest checkpoint, then drop the older ones. Returns its folder."""
        seal = CheckpointManifest(fingerprint=self._fingerprint, files=_digests(written), curve=curve)
        (written / _SEAL).write_text(seal.model_dump_json())
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
        """The newest whole checkpoint of this run; broken and foreign ones are passed over."""
        for folder in reversed(self._folders()):
            seal = _read_seal(folder)
            if seal and seal.fingerprint == self._fingerprint and seal.files == _digests(folder):
                return folder, seal
            _log.warning("checkpoint_refused", extra={"folder": folder.name})
        return None

    def _folders(self) -> list[Path]:
        return sorted(path for path in self._root.glob("step-*") if path.is_dir())


def _read_seal(folder: Path) -> CheckpointManifest | None:
    try:
        return CheckpointManifest.model_validate_json((folder / _SEAL).read_bytes())
    except (OSError, ValidationError):
        return None


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != _SEAL
    }
