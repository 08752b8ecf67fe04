"""The artifact store: immutable folders `artifacts/<key>-<digest>/`, whole or absent.

A stage writes into a scratch folder. Publishing hashes every file, writes `manifest.json`, flushes files and folder to
disk and renames the scratch folder to its final name. Two attempts at one key that produce the same bytes publish the
same folder. Different bytes become separate folders, and the database says which one is valid.
"""

import errno
import hashlib
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
from craft.errors import DiskFull, Internal, NotFound

MANIFEST_FILE = "manifest.json"
_HASH_BLOCK = 1 << 20
_GONE_HINT = "What no job needs any longer expires; run the job again."
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
        """The artifact's folder, read-only. Raises NotFound."""
        ...

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """The artifact's manifest. Raises NotFound."""
        ...


class FolderStore:
    """Artifacts in one folder of a (possibly shared) file system."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for folder in ("artifacts", "tmp", "checkpoints"):
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
            (scratch / MANIFEST_FILE).write_bytes(manifest.model_dump_json(indent=1).encode())
            _flush_tree(scratch)
            self._rename(scratch, self._folder(manifest.ref))
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskFull(
                    f"No space left for the artifact {key[:12]}.", hint="Free space below the artifacts folder."
                ) from error
            raise
        return manifest

    def open(self, ref: ArtifactRef) -> Path:
        """See `ArtifactStore.open`."""
        folder = self._folder(ref)
        if not (folder / MANIFEST_FILE).is_file():
            raise NotFound(
                f"The artifact {ref.key[:12]} is not in the store.",
                hint="What no job needs expires; run the job again.",
            )
        return folder

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """See `ArtifactStore.manifest`."""
        return Manifest.model_validate_json((self.open(ref) / MANIFEST_FILE).read_bytes())

    def _folder(self, ref: ArtifactRef) -> Path:
        return self._root / "artifacts" / artifact_folder(ref)

    def _rename(self, scratch: Path, folder: Path) -> None:
        while not _moved(scratch, folder):
            # Another attempt at the same key has published the same bytes. The folder gets a new time: until the
            # database refers to it, garbage collection would take an old folder for an orphan.
            with suppress(FileNotFoundError):  # garbage collection has just removed it, so ours is needed
                os.utime(folder)
                shutil.rmtree(scratch)
                break
        flush(folder.parent)


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
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return ManifestFile(path=path.relative_to(root).as_posix(), bytes=path.stat().st_size, sha256=digest.hexdigest())


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
