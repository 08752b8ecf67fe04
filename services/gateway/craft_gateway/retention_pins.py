"""Pinned jobs: what they made or took over is kept without limit of time."""

from sqlmodel import Session

from craft_gateway.database import Database
from craft_gateway.key_lock import lock_key
from craft_gateway.transitions_unit import JobUnit


class Pins:
    """Any job may be pinned, at any time; saying so twice is the same as once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pin(self, job_id: str) -> None:
        """Keep what the job made. What expired before has gone for good. Raises NotFound."""
        with self._database.write() as session:
            self._set(session, job_id, pinned=True)

    def unpin(self, job_id: str) -> None:
        """Let it expire as that of any other job; what is overdue goes with the next sweep. Raises NotFound."""
        with self._database.write() as session:
            self._set(session, job_id, pinned=False)

    def _set(self, session: Session, job_id: str, *, pinned: bool) -> None:
        unit = JobUnit.open(session, self._database.now, job_id)
        if unit.job.pinned is pinned:
            return
        # A sweep that looks at one of them now ends first, or sees the pin.
        for key in sorted({stage.artifact_key for stage in unit.stages if stage.artifact_key}):
            lock_key(session, key)
        unit.job.pinned = pinned
        unit.job.updated_at = unit.now
