"""Notes of workers that wait for their device to be well, in the folder that workers and gateway share.

A worker whose self-test fails has no stage, so the coordinator does not know of it. Without the folder only the reason
of a waiting job is less exact.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from pydantic import Field, ValidationError

from craft.contracts.base import Contract
from craft.contracts.stages.kinds import Service

FRESH_SECONDS = 900.0
"""A worker that still waits writes its note again in a third of this time at the latest."""
_MAX_NOTES = 200
_MAX_BYTES = 10_000
_log = logging.getLogger("craft.worker")


class SickWorker(Contract):
    """A worker at `place` whose device failed its self-test, with the words of the failure."""

    service: Service
    place: str = Field(max_length=200)
    words: str = Field(max_length=2000)
    noted_at: float = Field(description="Seconds since 1970.")


class SickWorkers:
    """The notes below an artifact folder's root."""

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = root / "workers"
        self._clock = clock

    def note(self, service: Service, place: str, words: str) -> None:
        """Write the worker's note, in the place of its earlier one."""
        note = SickWorker(service=service, place=place[:200], words=words[:2000], noted_at=self._clock())
        path = self._path(service, place)
        draft = path.with_name(f".{path.name}.{uuid4().hex}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_text(note.model_dump_json())
            draft.replace(path)
        except OSError as error:
            _log.warning("sick_worker_not_noted", extra={"error": str(error)})

    def forget(self, service: Service, place: str) -> None:
        """Remove the worker's note: its device is well."""
        try:
            self._path(service, place).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("sick_worker_not_forgotten", extra={"error": str(error)})

    def of(self, service: Service) -> list[SickWorker]:
        """The fresh notes of a service's workers, the newest first."""
        try:
            paths = sorted(self._folder.glob(f"{service.value}-*.json"))[:_MAX_NOTES]
        except OSError:
            return []
        oldest = self._clock() - FRESH_SECONDS
        notes = (note for path in paths if (note := _read(path)) is not None)
        fresh = (note for note in notes if note.noted_at >= oldest and note.service is service)
        return sorted(fresh, key=lambda note: -note.noted_at)

    def _path(self, service: Service, place: str) -> Path:
        return self._folder / f"{service.value}-{hashlib.sha256(place.encode()).hexdigest()[:32]}.json"


def _read(path: Path) -> SickWorker | None:
    try:
        with path.open("rb") as file:
            return SickWorker.model_validate_json(file.read(_MAX_BYTES))
    except (OSError, ValidationError):
        return None
