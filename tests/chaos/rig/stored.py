"""What must hold on disk: each counted artifact is there, byte for byte; no artifact is there by half."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError
from sqlmodel import select
from tests.chaos.faults.invariants import Violation

from craft.contracts.stages.artifacts import Manifest, artifact_digest
from craft.infra.storage.verification import MANIFEST_CHECKSUM_FILE, MANIFEST_FILE
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Artifact

COUNTED = "every counted artifact is in the store"
WHOLE = "every artifact in the store is whole"


def stored_violations(database: Database, root: Path) -> list[Violation]:
    """Read every artifact below the store's root."""
    return [*_counted(database, root), *_whole(root)]


def _counted(database: Database, root: Path) -> Iterator[Violation]:
    with database.read() as session:
        rows = [(row.key, row.digest) for row in session.exec(select(Artifact))]
    for key, digest in rows:
        if not (root / "artifacts" / f"{key}-{digest[:16]}" / MANIFEST_FILE).is_file():
            yield Violation(COUNTED, "", f"{key[:12]}-{digest[:16]}")


def _whole(root: Path) -> Iterator[Violation]:
    for folder in sorted((root / "artifacts").iterdir()):
        wrong = _wrong(folder)
        if wrong:
            yield Violation(WHOLE, "", f"{folder.name[:12]}…{folder.name[-17:]}: {wrong}")


def _wrong(folder: Path) -> str | None:
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    except (OSError, ValidationError) as error:
        return f"no manifest: {type(error).__name__}"
    own = {MANIFEST_FILE, MANIFEST_CHECKSUM_FILE}
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in own]
    found = {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}
    if found != {file.path: file.sha256 for file in manifest.files}:
        return "its files are not those of its manifest"
    if artifact_digest(found) != manifest.digest:
        return "its bytes do not hash to its digest"
    if folder.name != f"{manifest.key}-{manifest.digest[:16]}":
        return "its name is another artifact's"
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
