"""Compares an artifact's files with its manifest, and the manifest with the reference by which others know it.

SHA-256 is computed once for a process and an artifact: until a file's inode, size or time changes, the result is
remembered.
"""

import hashlib
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from craft.contracts.stages.artifacts import ArtifactRef, artifact_digest
from craft.errors import Unavailable

MANIFEST_FILE = "manifest.json"
MANIFEST_CHECKSUM_FILE = "manifest.sha256"
"""SHA-256 (hex) of the manifest's bytes: the digest of an artifact does not cover its counts, costs and findings."""
_HASH_BLOCK = 1 << 20
_REMEMBERED = 10_000
_LOCKS = 64
_SETTLED_NANOSECONDS = 1_000_000_000
"""A file system's clock may be this coarse: a file that changed within it could change again under the same time."""
_LEFT_BY_NFS = ".nfs"
"""The names of files that are removed while a client still has them open begin with this."""


class _ListedFile(BaseModel):
    path: str
    bytes: int
    sha256: str


class _Listing(BaseModel):
    """The members of a manifest that verification needs. A newer version may write others beside them."""

    key: str
    digest: str
    files: list[_ListedFile]


class FileState(NamedTuple):
    """A change of a file's content changes its state."""

    regular: bool
    device: int
    inode: int
    bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "FileState":
        """From what the system says about a file."""
        regular = stat.S_ISREG(found.st_mode)
        return cls(regular, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def settled_at(self, moment_ns: int) -> bool:
        """True if a change after this moment is certain to give the file another state."""
        return self.changed_ns < moment_ns - _SETTLED_NANOSECONDS


_States = Mapping[str, FileState]
"""By its path below the artifact's folder, the state of each file."""


class _HashedFile(NamedTuple):
    state: FileState
    sha256: str


class FileHashes:
    """SHA-256 of files, each computed once until the file changes. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, _HashedFile] = OrderedDict()
        self._guard = threading.Lock()

    def sha256(self, path: Path) -> str:
        """The file's hash in hex. Raises OSError."""
        began, state = time.time_ns(), FileState.of(path.stat())
        with self._guard:
            known = self._known.get(path)
        if known is not None and known.state == state:
            return known.sha256
        found = sha256_of(path)
        if state.settled_at(began):
            with self._guard:
                self._known[path] = _HashedFile(state, found)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return found


class Verification:
    """Finds damage of artifacts. Safe to use from several threads."""

    def __init__(self) -> None:
        self._hashed: OrderedDict[tuple[str, ArtifactRef], _States] = OrderedDict()
        self._guard = threading.Lock()
        # Threads that ask about one artifact wait for one of them to hash it.
        self._hashing = [threading.Lock() for _ in range(_LOCKS)]

    def damage(self, folder: Path, ref: ArtifactRef, *, max_hashed_bytes: int | None = None) -> str | None:
        """The damage of the artifact in words; None if there is none.

        The files of an artifact of more than `max_hashed_bytes` are compared by name and size only. Raises
        FileNotFoundError if there is no such folder, Unavailable if it cannot be read.
        """
        try:
            return self._damage(folder, ref, max_hashed_bytes)
        except FileNotFoundError:
            if folder.is_dir():
                return "a file was removed"
            raise
        except OSError as error:
            raise Unavailable(
                f"The artifact store cannot be read: {error.strerror or error}.",
                hint="Look at the disk, or the mount, of the artifacts folder.",
            ) from error

    def _damage(self, folder: Path, ref: ArtifactRef, max_hashed_bytes: int | None) -> str | None:
        states = _states(folder)
        if self._is_hashed(folder, ref, states):
            return None
        if MANIFEST_FILE not in states:
            return f"{MANIFEST_FILE} is missing"
        files = _listed_files(folder, ref)
        if files is None:
            return f"{MANIFEST_FILE} is not the one that was written"
        if damage := _damaged_outside(files, states):
            return damage
        if max_hashed_bytes is not None and sum(file.bytes for file in files) > max_hashed_bytes:
            return None
        return self._damaged_inside(folder, ref, states, files)

    def _damaged_inside(
        self, folder: Path, ref: ArtifactRef, states: _States, files: Sequence[_ListedFile]
    ) -> str | None:
        with self._hashing[hash(ref) % _LOCKS]:
            if self._is_hashed(folder, ref, states):
                return None
            began = time.time_ns()
            for file in files:
                if sha256_of(folder / file.path) != file.sha256:
                    return f"{file.path} has other bytes than were written"
            if all(state.settled_at(began) for state in states.values()):
                self._remember(folder, ref, states)
        return None

    def _is_hashed(self, folder: Path, ref: ArtifactRef, states: _States) -> bool:
        with self._guard:
            return self._hashed.get((str(folder), ref)) == states

    def _remember(self, folder: Path, ref: ArtifactRef, states: _States) -> None:
        with self._guard:
            self._hashed[str(folder), ref] = states
            self._hashed.move_to_end((str(folder), ref))
            while len(self._hashed) > _REMEMBERED:
                self._hashed.popitem(last=False)


def _states(folder: Path) -> _States:
    """The state of all that is in the folder and is no folder. Raises FileNotFoundError if there is no folder."""
    states: dict[str, FileState] = {}
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                elif not entry.name.startswith(_LEFT_BY_NFS):
                    # Not `entry.stat()`, whose answer may be older than this call.
                    state = FileState.of(os.lstat(entry.path))
                    states[Path(entry.path).relative_to(folder).as_posix()] = state
    return states


def _listed_files(folder: Path, ref: ArtifactRef) -> Sequence[_ListedFile] | None:
    """The files of the manifest; None if it is not the manifest of this artifact, or not as it was written."""
    content = (folder / MANIFEST_FILE).read_bytes()
    # Artifacts of older versions have no checksum.
    with suppress(FileNotFoundError):
        if (folder / MANIFEST_CHECKSUM_FILE).read_bytes() != checksum(content):
            return None
    try:
        listing = _Listing.model_validate_json(content)
    except ValidationError:
        return None
    digest = artifact_digest({file.path: file.sha256 for file in listing.files})
    ours = (listing.key, listing.digest, digest) == (ref.key, ref.digest, ref.digest)
    return listing.files if ours else None


def checksum(manifest: bytes) -> bytes:
    """The content of the checksum file beside a manifest."""
    return hashlib.sha256(manifest).hexdigest().encode()


def _damaged_outside(files: Sequence[_ListedFile], states: _States) -> str | None:
    """The damage that names, kinds and sizes of files show."""
    for file in files:
        state = states.get(file.path)
        if state is None:
            return f"{file.path} is missing"
        if not state.regular:
            return f"{file.path} is a link"
        if state.bytes != file.bytes:
            return f"{file.path} has {state.bytes:,} bytes and not {file.bytes:,}"
    extra = states.keys() - {file.path for file in files} - {MANIFEST_FILE, MANIFEST_CHECKSUM_FILE}
    return f"{min(extra)} does not belong to it" if extra else None


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
