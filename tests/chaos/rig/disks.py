"""A small disk of its own for the artifacts, which can be filled to the last block and emptied again."""

import contextlib
import os
import subprocess
from pathlib import Path
from typing import Self

_BLOCK = 4096


class SmallDisk:
    """A tmpfs on the folder, as a context. `mounted` is False where we may not mount, with the reason in `reason`."""

    def __init__(self, folder: Path, *, megabytes: int) -> None:
        self._folder = folder
        self._megabytes = megabytes
        self._ballast = folder / "ballast"
        self.mounted = False
        self.reason = "only root may mount a small disk"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            options = f"size={self._megabytes}m"
            command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self._folder)]
            mount = subprocess.run(command, capture_output=True, text=True, check=False)
            self.mounted = mount.returncode == 0
            self.reason = mount.stderr.strip()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.mounted:
            # Lazily, for a process that is still ending may hold a file open.
            subprocess.run(["umount", "--lazy", str(self._folder)], check=False)
            self.mounted = False

    def fill(self) -> None:
        """Take all space that is left. May be called again while others free some."""
        with contextlib.suppress(OSError), self._ballast.open("ab") as file:
            left = os.statvfs(self._folder)
            size = file.tell()
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), size, left.f_bavail * left.f_frsize)
            file.seek(0, os.SEEK_END)
            # What others freed or rounded off in the meantime.
            while True:
                file.write(b"\0" * _BLOCK)
                file.flush()

    def free(self) -> None:
        """Give the space back."""
        self._ballast.unlink(missing_ok=True)
