"""Notices that the database behind an open connection is no longer the one that a new connection would get."""

from pathlib import Path
from typing import NamedTuple

from craft.errors import Unavailable

_HINT = "Stop the services, put the database back where it was (or restore a backup), and start them again."


class FileId(NamedTuple):
    """Identifies a file on its machine, whatever its path."""

    device: int
    inode: int


class DatabaseFile:
    """A SQLite database's file, compared with the one that the first connection opened.

    Connections stay on a file that was removed or replaced: what they write is lost when the process ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: FileId | None = None

    def opened(self) -> None:
        """Remember the file that a connection has just opened. Raises Unavailable if it is another one than before."""
        if self._opened is None:
            self._opened = self._current()
        self.check()

    def check(self) -> None:
        """Raises Unavailable if the path no longer leads to the file that was opened first."""
        if self._opened is None:
            return
        current = self._current()
        if current is None:
            raise Unavailable(f"The database file {self._path} was removed while the service runs.", hint=_HINT)
        if current != self._opened:
            raise Unavailable(f"The database file {self._path} was replaced while the service runs.", hint=_HINT)

    def _current(self) -> FileId | None:
        try:
            found = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unavailable(
                f"The database file {self._path} cannot be read: {error.strerror}.", hint=_HINT
            ) from error
        return FileId(found.st_dev, found.st_ino)
