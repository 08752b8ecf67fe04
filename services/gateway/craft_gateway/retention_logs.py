"""Log lines of jobs that ended long ago leave the database: of all that it keeps of a job they are by far the most."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func
from sqlmodel import Session, col, select

from craft_gateway.database import Database
from craft_gateway.tables import Job, StageLog

MOST_LINES = 5000
"""Deleted in one transaction."""


class OldLogs:
    """Pinned jobs keep their lines. `lifetime` counts from the job's end, None is without end; `page` is of jobs."""

    def __init__(
        self, database: Database, lifetime: timedelta | None, *, page: int, most_lines: int = MOST_LINES
    ) -> None:
        self._database = database
        self._lifetime = lifetime
        self._page = page
        self._most_lines = most_lines

    def forget(self) -> Iterator[int]:
        """One round: each step looks at a page of jobs, or deletes so many lines of one job."""
        after = ""
        while self._lifetime is not None and (jobs := self._with_lines(after)):
            yield 0
            for job_id in self._old(jobs):
                while lines := self._forget_some(job_id):
                    yield lines
            after = jobs[-1]

    def _with_lines(self, after: str) -> list[str]:
        """The next jobs that have lines, in order of their ids: a step along the index for each, however many lines."""
        found: list[str] = []
        with self._database.read() as session:
            while len(found) < self._page:
                following = select(func.min(StageLog.job_id)).where(StageLog.job_id > (found[-1] if found else after))
                job_id = session.exec(following).one()
                if job_id is None:
                    break
                found.append(job_id)
        return found

    def _old(self, jobs: Sequence[str]) -> Sequence[str]:
        with self._database.read() as session:
            old = select(Job.id).where(col(Job.id).in_(jobs), *self._over(session))
            return session.exec(old.order_by(col(Job.id))).all()

    def _forget_some(self, job_id: str) -> int:
        with self._database.write() as session:
            # The row's lock: who pins the job comes before, or keeps what is left.
            old = select(Job.id).where(Job.id == job_id, *self._over(session)).with_for_update()
            if session.exec(old).first() is None:
                return 0
            first = session.exec(select(func.min(StageLog.seq)).where(StageLog.job_id == job_id)).one()
            if first is None:
                return 0
            lines = delete(StageLog).where(col(StageLog.job_id) == job_id, col(StageLog.seq) < first + self._most_lines)
            return session.connection().execute(lines).rowcount

    def _over(self, session: Session) -> tuple[ColumnElement[bool], ...]:
        """Of a job, that its lines' time is over."""
        before: datetime = self._database.now(session) - (self._lifetime or timedelta())
        return col(Job.finished_at) <= before, ~col(Job.pinned)
