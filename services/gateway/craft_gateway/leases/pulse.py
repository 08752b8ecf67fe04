"""Reads all leases, and shows the other coordinators that this one still can."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import delete, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from craft.contracts.events import StageStatus
from craft.infra.settings.coordinator import CoordinatorSettings
from craft_gateway.leases.unheard import Report, UnheardReports
from craft_gateway.leases.watch import Lease
from craft_gateway.store.database import Database
from craft_gateway.store.tables import CoordinatorPulse, Stage

_PULSES_IN_SILENCE = 5
"""A coordinator that misses so many pulses in a row counts as silent."""
_FORGOTTEN_AFTER = timedelta(days=1)


class LeaseRows(NamedTuple):
    """All leases and all coordinators' pulses, of one moment."""

    leases: list[Lease]
    pulses: dict[str, int]


class PulseWriter:
    """Reads the leases. Now and then it writes as well: a database that can only be read is an outage too."""

    def __init__(
        self,
        database: Database,
        *,
        coordinator: str,
        unheard: UnheardReports,
        settings: CoordinatorSettings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`coordinator` names this process. `unheard`: the reports that it could not store, to be marked here."""
        self._database = database
        self._coordinator = coordinator
        self._unheard = unheard
        self._pulse_seconds = settings.silence_seconds / _PULSES_IN_SILENCE
        self._monotonic = monotonic
        self._written_at: float | None = None

    def read(self) -> LeaseRows:
        """The leases of now. Raises Unavailable if the database cannot be read, or not be written when that is due."""
        now = self._monotonic()
        due = self._written_at is None or now - self._written_at >= self._pulse_seconds
        if not (due or self._unheard):
            with self._database.read() as session:
                return _rows(session)
        reports = self._unheard.take()
        try:
            with self._database.write() as session:
                _beat(session, self._coordinator, self._database)
                for report in reports:
                    _mark_unheard(session, report)
                rows = _rows(session)
        except Exception:
            self._unheard.add(reports)
            raise
        self._written_at = now
        return rows


def _beat(session: Session, coordinator: str, database: Database) -> None:
    now = database.now(session)
    connection = session.connection()
    connection.execute(delete(CoordinatorPulse).where(col(CoordinatorPulse.seen_at) < now - _FORGOTTEN_AFTER))
    own = col(CoordinatorPulse.id) == coordinator
    beat = update(CoordinatorPulse).where(own).values(count=CoordinatorPulse.count + 1, seen_at=now)
    if connection.execute(beat).rowcount == 0:
        session.add(CoordinatorPulse(id=coordinator, count=1, seen_at=now))


def _mark_unheard(session: Session, report: Report) -> None:
    """Without the job's lock, which somebody may hold; a row that is locked itself is left to the next report."""
    of_report = (col(Stage.id) == report.stage_id, col(Stage.fence) == report.fence)
    leased = select(Stage.id).where(*of_report, Stage.status == StageStatus.RUNNING)
    if session.exec(leased.with_for_update(skip_locked=True)).first():
        session.connection().execute(update(Stage).where(*of_report).values(unheard=True))


def _rows(session: Session) -> LeaseRows:
    # As many as there are workers.
    columns = (col(Stage.id), col(Stage.fence), col(Stage.lease_expires_at), col(Stage.heard_by), col(Stage.unheard))
    running = select_columns(*columns).where(col(Stage.status) == StageStatus.RUNNING)
    leases = [Lease(*row) for row in session.connection().execute(running)]
    return LeaseRows(leases, dict(session.exec(select(CoordinatorPulse.id, CoordinatorPulse.count)).all()))
