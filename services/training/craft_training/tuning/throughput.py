"""The training speed that this installation's last run measured. Only estimates use it."""

import json
import logging
from pathlib import Path
from typing import Protocol
from uuid import uuid4

_log = logging.getLogger("craft.training")


class Throughput(Protocol):
    """The last measured speed in floating-point operations per second, or None before the first run."""

    def read(self) -> float | None: ...

    def write(self, flops_per_second: float) -> None: ...


class KnownThroughput:
    """Keeps the speed in memory: the fake for tests."""

    def __init__(self, flops_per_second: float | None = None) -> None:
        self.flops_per_second = flops_per_second

    def read(self) -> float | None:
        """See `Throughput`."""
        return self.flops_per_second

    def write(self, flops_per_second: float) -> None:
        """See `Throughput`."""
        self.flops_per_second = flops_per_second


class ThroughputFile:
    """Keeps the speed in a small file that worker and API share. Without the file, estimates are only less accurate."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> float | None:
        """See `Throughput`."""
        try:
            value = json.loads(self._path.read_bytes())["flops_per_second"]
            return float(value) if value > 0 else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, flops_per_second: float) -> None:
        """See `Throughput`."""
        temporary = self._path.with_name(f"{self._path.name}.{uuid4().hex}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({"flops_per_second": flops_per_second}))
            temporary.replace(self._path)
        except OSError as error:
            _log.warning("throughput_not_kept", extra={"error": str(error)})
