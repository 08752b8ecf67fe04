"""The artifact store for the garbage collector: lists folders with their age and size, and removes them.

Ages go by the file system's own clock, because the clocks of hosts that share it differ.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import uuid4

from craft.contracts.stages.artifacts import ArtifactRef
from craft.infra.storage.artifacts import QUARANTINE, artifact_folder

_TRASH = "trash-"
_CLOCK = ".clock"


class Area(StrEnum):
    """A part of the store; the value is its folder's name."""

    ARTIFACTS = "artifacts"
    CHECKPOINTS = "checkpoints"
    SCRATCH = "tmp"
    DAMAGED = QUARANTINE


_NAMES = {
    Area.ARTIFACTS: re.compile(r"(?P<key>[0-9a-f]{64})-[0-9a-f]{16}"),
    Area.CHECKPOINTS: re.compile(r"(?P<key>[0-9a-f]{64})"),
    Area.DAMAGED: re.compile(r"(?P<key>[0-9a-f]{64})-[0-9a-f]{16}-[0-9a-f]{32}"),
    Area.SCRATCH: re.compile(r"(?:(?P<stage>stg_[0-9a-z]{26})-(?P<fence>[0-9]+)|(?!trash-).+)-[0-9a-f]{32}"),
}
"""The store's folders have these names; the collector ignores others."""


class AttemptId(NamedTuple):
    """Identifies an attempt at a stage: the stage's id, and the fence under which the attempt runs."""

    stage_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class StoredFolder:
    """A folder of the store."""

    area: Area
    name: str

    @property
    def key(self) -> str | None:
        """The key of an artifact or a checkpoint; None for scratch."""
        return self._name_parts().get("key")

    @property
    def attempt(self) -> AttemptId | None:
        """The attempt that wrote this scratch; None if no attempt did."""
        parts = self._name_parts()
        stage_id, fence = parts.get("stage"), parts.get("fence")
        return AttemptId(stage_id, int(fence)) if stage_id and fence else None

    def _name_parts(self) -> dict[str, str | None]:
        match = _NAMES[self.area].fullmatch(self.name)
        return match.groupdict() if match else {}


def folder_of(ref: ArtifactRef) -> StoredFolder:
    """Return the folder of an artifact."""
    return StoredFolder(Area.ARTIFACTS, artifact_folder(ref))


class CollectableStore(Protocol):
    """A store whose folders the collector may remove. A folder that vanishes meanwhile has 0 bytes and no age."""

    def folders(self, area: Area) -> Iterator[StoredFolder]:
        """Yield every folder of one area, in no order, reading as the caller iterates."""
        ...

    def now(self) -> float:
        """Return the current time of the store's own clock, in seconds."""
        ...

    def changed_at(self, folder: StoredFolder) -> float | None:
        """Return the time of the last change in the folder by the store's own clock; None if it is gone."""
        ...

    def bytes_of(self, folder: StoredFolder) -> int:
        """Return the size of the folder's files."""
        ...

    def trash(self, folder: StoredFolder) -> None:
        """Move the folder out of its area in one step, however large it is. Raises OSError."""
        ...

    def empty_trash(self) -> None:
        """Free the space of all folders that were moved out."""
        ...


class ArtifactFolders:
    """The folders below a `FolderStore`'s root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folders(self, area: Area) -> Iterator[StoredFolder]:
        """See `CollectableStore.folders`."""
        with suppress(FileNotFoundError), os.scandir(self._root / area.value) as entries:
            for entry in entries:
                if _NAMES[area].fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield StoredFolder(area, entry.name)

    def now(self) -> float:
        """See `CollectableStore.now`."""
        # The clock's file is never removed: on a full disk, which needs the collector most, no new file can be made.
        clock = self._root / Area.SCRATCH.value / _CLOCK
        clock.touch()
        return clock.stat().st_mtime

    def changed_at(self, folder: StoredFolder) -> float | None:
        """See `CollectableStore.changed_at`."""
        times = []
        for parent, _, files in os.walk(self._path(folder)):
            for name in (".", *files):
                with suppress(FileNotFoundError):
                    times.append(Path(parent, name).lstat().st_mtime)
        return max(times, default=None)

    def bytes_of(self, folder: StoredFolder) -> int:
        """See `CollectableStore.bytes_of`."""
        total = 0
        for parent, _, files in os.walk(self._path(folder)):
            for name in files:
                with suppress(FileNotFoundError):
                    total += Path(parent, name).lstat().st_size
        return total

    def trash(self, folder: StoredFolder) -> None:
        """See `CollectableStore.trash`."""
        with suppress(FileNotFoundError):
            self._path(folder).rename(self._root / Area.SCRATCH.value / f"{_TRASH}{uuid4().hex}")

    def empty_trash(self) -> None:
        """See `CollectableStore.empty_trash`."""
        with suppress(FileNotFoundError), os.scandir(self._root / Area.SCRATCH.value) as entries:
            for entry in entries:
                if entry.name.startswith(_TRASH):
                    shutil.rmtree(entry.path, ignore_errors=True)

    def _path(self, folder: StoredFolder) -> Path:
        return self._root / folder.area.value / folder.name
