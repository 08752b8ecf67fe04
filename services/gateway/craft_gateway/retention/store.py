"""The artifact store as a sweep sees it: folders with their age and size, and a way to be rid of them.

Ages come from the file system's own clock: hosts that share it disagree about the time.
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
from craft.infra.storage.artifacts import artifact_folder

_TRASH = "trash-"
_CLOCK = ".clock"


class Area(StrEnum):
    """A part of the store; the value is its folder's name."""

    ARTIFACTS = "artifacts"
    CHECKPOINTS = "checkpoints"
    SCRATCH = "tmp"


_NAMES = {
    Area.ARTIFACTS: re.compile(r"(?P<key>[0-9a-f]{64})-[0-9a-f]{16}"),
    Area.CHECKPOINTS: re.compile(r"(?P<key>[0-9a-f]{64})"),
    Area.SCRATCH: re.compile(r"(?:(?P<stage>stg_[0-9a-z]{26})-(?P<fence>[0-9]+)|(?!trash-).+)-[0-9a-f]{32}"),
}
"""Folders of other names are not the store's, and are left alone."""


class Claimed(NamedTuple):
    """An attempt at a stage: the stage's id and the fence under which it runs."""

    stage_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class StoredFolder:
    """A folder of the store."""

    area: Area
    name: str

    @property
    def key(self) -> str | None:
        """The key of an artifact or a checkpoint; None of scratch."""
        return self._named().get("key")

    @property
    def attempt(self) -> Claimed | None:
        """Whose scratch it is; None where no stage's attempt made it."""
        named = self._named()
        stage_id, fence = named.get("stage"), named.get("fence")
        return Claimed(stage_id, int(fence)) if stage_id and fence else None

    def _named(self) -> dict[str, str | None]:
        found = _NAMES[self.area].fullmatch(self.name)
        return found.groupdict() if found else {}


def folder_of(ref: ArtifactRef) -> StoredFolder:
    """Where an artifact's bytes lie."""
    return StoredFolder(Area.ARTIFACTS, artifact_folder(ref))


class CollectableStore(Protocol):
    """What a sweep asks of the store. A folder may vanish at any moment: it is then 0 bytes and of no age."""

    def folders(self, area: Area) -> Iterator[StoredFolder]:
        """Every folder of one area, in no order, read on as the caller goes on."""
        ...

    def now(self) -> float:
        """The present by the store's own clock, in seconds."""
        ...

    def changed_at(self, folder: StoredFolder) -> float | None:
        """When anything in it changed last, by the store's own clock; None where it is gone."""
        ...

    def bytes_of(self, folder: StoredFolder) -> int:
        """How much space its files take."""
        ...

    def trash(self, folder: StoredFolder) -> None:
        """Take it out of its area in one step, however large it is. Raises OSError."""
        ...

    def empty_trash(self) -> None:
        """Free the space of all that was ever taken out."""
        ...


class ArtifactFolders:
    """The folders below a `FolderStore`'s root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folders(self, area: Area) -> Iterator[StoredFolder]:
        """See `SweptStore.folders`."""
        with suppress(FileNotFoundError), os.scandir(self._root / area.value) as entries:
            for entry in entries:
                if _NAMES[area].fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield StoredFolder(area, entry.name)

    def now(self) -> float:
        """See `SweptStore.now`."""
        # One file that stays: on a full disk, where a sweep is needed most, no new one could be made.
        clock = self._root / Area.SCRATCH.value / _CLOCK
        clock.touch()
        return clock.stat().st_mtime

    def changed_at(self, folder: StoredFolder) -> float | None:
        """See `SweptStore.changed_at`."""
        times = []
        for parent, _, files in os.walk(self._path(folder)):
            for name in (".", *files):
                with suppress(FileNotFoundError):
                    times.append(Path(parent, name).lstat().st_mtime)
        return max(times, default=None)

    def bytes_of(self, folder: StoredFolder) -> int:
        """See `SweptStore.bytes_of`."""
        total = 0
        for parent, _, files in os.walk(self._path(folder)):
            for name in files:
                with suppress(FileNotFoundError):
                    total += Path(parent, name).lstat().st_size
        return total

    def trash(self, folder: StoredFolder) -> None:
        """See `SweptStore.trash`."""
        with suppress(FileNotFoundError):
            self._path(folder).rename(self._root / Area.SCRATCH.value / f"{_TRASH}{uuid4().hex}")

    def empty_trash(self) -> None:
        """See `SweptStore.empty_trash`."""
        with suppress(FileNotFoundError), os.scandir(self._root / Area.SCRATCH.value) as entries:
            for entry in entries:
                if entry.name.startswith(_TRASH):
                    shutil.rmtree(entry.path, ignore_errors=True)

    def _path(self, folder: StoredFolder) -> Path:
        return self._root / folder.area.value / folder.name
