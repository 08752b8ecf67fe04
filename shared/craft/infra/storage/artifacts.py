"""The artifact store: immutable folders `artifacts/<key>-<digest>/`, whole or absent.

A stage writes into a scratch folder. Publishing hashes every file, writes `manifest.json`, flushes files and folder to
disk and renames the scratch folder to its final name. Two attempts at one key that produce the same bytes publish the
same folder. Different bytes become separate folders, and the database says which one is valid.

Whoever opens an artifact gets the bytes that were published: a damaged one is moved to `quarantine/`, and is then
absent.
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol, TypeVar
from uuid import uuid4

from pydantic import BaseModel

from craft.contracts.stages.artifacts import ArtifactRef, Manifest, ManifestFile, StageResult, artifact_digest
from craft.contracts.stages.kinds import FACTS, StageKind
from craft.errors import ArtifactDamaged, DiskFull, Internal, NotFound, Unavailable
from craft.infra.storage.verification import (
    MANIFEST_CHECKSUM_FILE,
    Verification,
    checksum,
    sha256_of,
)
from craft.infra.storage.verification import MANIFEST_FILE as MANIFEST_FILE

_HASHED_AT_ONCE = 256 * 2**20
"""`holds` hashes up to so many bytes, in about a quarter of a second: a claim or a submission waits for it."""
_MAKE_AGAIN = "Retry the job with `from_stage`, the stage that makes it. Upload a dataset again: that repairs it."
_log = logging.getLogger("craft.artifacts")
QUARANTINE = "quarantine"
"""The folder of damaged artifacts, below the store's root."""
RowT = TypeVar("RowT", bound=BaseModel)


class ArtifactStore(Protocol):
    """A store of artifacts. All paths are local folders that the caller may read."""

    def scratch(self, name: str) -> Path:
        """A new empty folder to write an artifact into; `name` helps people who look at the folders."""
        ...

    def checkpoint(self, key: str) -> Path:
        """The folder for checkpoints of the stage with this key; a later attempt can resume from it."""
        ...

    def publish(
        self,
        scratch: Path,
        *,
        key: str,
        kind: StageKind | Literal["dataset"],
        parameters: dict[str, object],
        inputs: Mapping[str, ArtifactRef],
        result: StageResult,
    ) -> Manifest:
        """Turn the scratch folder into an artifact in one step. Raises DiskFull; leaves no partial artifact."""
        ...

    def open(self, ref: ArtifactRef) -> Path:
        """The artifact's folder, read-only: its files have the bytes that were published.

        Raises NotFound, ArtifactDamaged if it was found damaged just now, Unavailable.
        """
        ...

    def holds(self, ref: ArtifactRef) -> bool:
        """True if the store has the artifact, undamaged. Of a large one, only names and sizes of files are compared.

        Raises Unavailable.
        """
        ...

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """The artifact's manifest; of the other files, only names and sizes are compared. Raises as `open` does."""
        ...


class FolderStore:
    """Artifacts in one folder of a (possibly shared) file system."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._verification = Verification()
        for folder in ("artifacts", "tmp", "checkpoints", QUARANTINE):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def scratch(self, name: str) -> Path:
        """See `ArtifactStore.scratch`."""
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:80]
        folder = self._root / "tmp" / f"{safe}-{uuid4().hex}"
        folder.mkdir()
        return folder

    def checkpoint(self, key: str) -> Path:
        """See `ArtifactStore.checkpoint`."""
        folder = self._root / "checkpoints" / key
        folder.mkdir(exist_ok=True)
        return folder

    def publish(
        self,
        scratch: Path,
        *,
        key: str,
        kind: StageKind | Literal["dataset"],
        parameters: dict[str, object],
        inputs: Mapping[str, ArtifactRef],
        result: StageResult,
    ) -> Manifest:
        """See `ArtifactStore.publish`."""
        paths = sorted(scratch.rglob("*"))
        _refuse_links(paths)
        files = [_described(path, scratch) for path in paths if path.is_file()]
        manifest = Manifest(
            key=key,
            digest=artifact_digest({file.path: file.sha256 for file in files}),
            kind=kind,
            code_version=FACTS[kind].code_version if isinstance(kind, StageKind) else 1,
            parameters=parameters,
            inputs=dict(inputs),
            files=files,
            result=result,
        )
        try:
            content = manifest.model_dump_json(indent=1).encode()
            (scratch / MANIFEST_FILE).write_bytes(content)
            (scratch / MANIFEST_CHECKSUM_FILE).write_bytes(checksum(content))
            _flush_tree(scratch)
            self._rename(scratch, manifest.ref)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFull(
                    f"No space left for the artifact {key[:12]}.", hint="Free space below the artifacts folder."
                ) from error
            raise
        return manifest

    def open(self, ref: ArtifactRef) -> Path:
        """See `ArtifactStore.open`."""
        return self._verified(ref)

    def holds(self, ref: ArtifactRef) -> bool:
        """See `ArtifactStore.holds`."""
        try:
            self._verified(ref, max_hashed_bytes=_HASHED_AT_ONCE)
        except (NotFound, ArtifactDamaged):
            return False
        return True

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """See `ArtifactStore.manifest`."""
        folder = self._verified(ref, max_hashed_bytes=0)
        return Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())

    def _verified(self, ref: ArtifactRef, *, max_hashed_bytes: int | None = None) -> Path:
        folder = self._folder(ref)
        try:
            damage = self._verification.damage(folder, ref, max_hashed_bytes=max_hashed_bytes)
        except FileNotFoundError:
            raise NotFound(
                f"The artifact {ref.key[:12]} is not in the store.",
                hint="What no job needs expires; run the job again.",
            ) from None
        if damage is not None:
            self._set_aside(folder, damage)
            raise ArtifactDamaged(f"The artifact {ref.key[:12]} is damaged: {damage}.", hint=_MAKE_AGAIN)
        return folder

    def _set_aside(self, folder: Path, damage: str) -> bool:
        """Move a damaged artifact out of the way, for people to look at. False if that is not possible."""
        aside = self._root / QUARANTINE / f"{folder.name}-{uuid4().hex}"
        try:
            folder.rename(aside)
            os.utime(aside)  # its time in quarantine begins
        except FileNotFoundError:
            return True  # another process was faster
        except OSError as error:
            _log.error("artifact_not_set_aside", extra={"artifact": folder.name, "error": str(error)[:300]})
            return False
        _log.error("artifact_damaged", extra={"artifact": folder.name, "damage": damage, "set_aside": str(aside)})
        return True

    def _folder(self, ref: ArtifactRef) -> Path:
        return self._root / "artifacts" / artifact_folder(ref)

    def _rename(self, scratch: Path, ref: ArtifactRef) -> None:
        folder = self._folder(ref)
        while not _moved(scratch, folder):
            # Another attempt at the same key has published the same bytes. The folder gets a new time: until the
            # database refers to it, garbage collection would take an old folder for an orphan.
            with suppress(FileNotFoundError):  # garbage collection has just removed it, so ours is needed
                if damage := self._verification.damage(folder, ref):
                    self._replace(folder, damage)
                    continue
                os.utime(folder)
                shutil.rmtree(scratch)
                break
        flush(folder.parent)

    def _replace(self, folder: Path, damage: str) -> None:
        if not self._set_aside(folder, damage):
            raise Unavailable(
                f"The damaged artifact {folder.name[:12]} cannot be replaced.",
                hint="Look at the permissions of the artifacts folder.",
            )


def artifact_folder(ref: ArtifactRef) -> str:
    """The folder name of an artifact."""
    return f"{ref.key}-{ref.digest[:16]}"


def _moved(scratch: Path, folder: Path) -> bool:
    """Rename a folder; False if the target exists."""
    try:
        scratch.rename(folder)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        return False
    return True


def _refuse_links(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_symlink():
            raise Internal(f"An artifact must not contain a link: {path.name}")


def _described(path: Path, root: Path) -> ManifestFile:
    relative = path.relative_to(root).as_posix()
    return ManifestFile(path=relative, bytes=path.stat().st_size, sha256=sha256_of(path))


def flush(path: Path) -> None:
    """Write a file, or a folder's entries, from the kernel's cache to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        flush(path)


def write_rows(path: Path, rows: Iterable[BaseModel]) -> int:
    """Write models as JSONL (UTF-8, without absent members); returns their number."""
    count = 0
    with path.open("wb") as file:
        for row in rows:
            file.write(row.model_dump_json(exclude_none=True).encode())
            file.write(b"\n")
            count += 1
    return count


def read_rows(path: Path, model: type[RowT]) -> Iterator[RowT]:
    """Read a JSONL file that `write_rows` wrote, one model at a time."""
    with path.open("rb") as file:
        for line in file:
            yield model.model_validate_json(line)
