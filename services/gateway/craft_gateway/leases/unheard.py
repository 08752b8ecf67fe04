"""Reports of workers that a coordinator could not store: their workers are alive, whatever becomes of their leases."""

from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple


class Report(NamedTuple):
    """A worker's call for one claim."""

    stage_id: str
    fence: int


class UnheardReports:
    """Reports that this process could not store; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._reports: set[Report] = set()

    def __bool__(self) -> bool:
        return bool(self._reports)

    def add(self, reports: Iterable[Report]) -> None:
        """Remember them."""
        with self._lock:
            self._reports.update(reports)

    def take(self) -> frozenset[Report]:
        """All of them; they are forgotten here."""
        with self._lock:
            taken, self._reports = frozenset(self._reports), set()
        return taken
