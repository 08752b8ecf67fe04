"""Free space on the artifact store's disk: no stage starts without some."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

_FRESH_SECONDS = 1.0


def _free(folder: Path) -> int:
    """Bytes that are free on the folder's file system; none where it cannot be read: nothing can be written then."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


class FreeSpace:
    """Asked at every claim, so the disk is looked at once a second at most. `min_free_bytes` 0 switches it off."""

    def __init__(
        self,
        folder: Path,
        *,
        min_free_bytes: int,
        free: Callable[[Path], int] = _free,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._free = free
        self._clock = clock
        self._lock = threading.Lock()
        self._seen_at: float | None = None
        self._seen_bytes = 0

    def __call__(self) -> bool:
        """True if at least `min_free_bytes` are free."""
        return self._min_free_bytes == 0 or self.free_bytes() >= self._min_free_bytes

    def free_bytes(self) -> int:
        """Free bytes of the disk, as of less than a second ago."""
        with self._lock:
            moment = self._clock()
            if self._seen_at is None or moment - self._seen_at >= _FRESH_SECONDS:
                self._seen_bytes, self._seen_at = self._free(self._folder), moment
            return self._seen_bytes
