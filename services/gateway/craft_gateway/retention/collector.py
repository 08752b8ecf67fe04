"""Garbage collection: removes expired artifacts and old log lines."""

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func
from sqlmodel import Session, col, select

from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.retention.expiry import PAGE, Expired, Expiry
from craft_gateway.retention.store import CollectableStore
from craft_gateway.store.database import Database, lock_key
from craft_gateway.store.tables import Artifact, Job, StageLog

MOST_LISTED = 1000
_MOST_REMOVED = 50
"""In one step of a round."""
_log = logging.getLogger("craft.retention")


class CollectionRun(NamedTuple):
    """What is gone, or would go. `more`: the limit was reached first."""

    found: Sequence[Expired]
    more: bool


class GarbageCollector:
    """Safe to run in several processes at once, and at any moment."""

    def __init__(
        self, database: Database, store: CollectableStore, settings: RetentionSettings, *, page: int = PAGE
    ) -> None:
        self._database = database
        self._store = store
        self._expiry = Expiry(database, store, settings, page=page)
        self._logs = OldLogs(database, settings.log_lifetime, page=page)
        self._round: Iterator[Sequence[Expired]] | None = None

    def sweep(self) -> bool:
        """One step of a round over everything: look at a page, remove what expired. False at the round's end.

        `dry_run` and `collect` are about the store only: log lines wait for the round.
        """
        if self._round is None:
            self._round = self._steps()
        try:
            page = next(self._round, None)
        except BaseException:
            self._round = None  # what raised cannot go on; the next step begins anew
            raise
        if page is None:
            self._round = None
        gone = [expired for expired in page or () if self._removed(expired)]
        if gone:
            _log.info("swept", extra={"removed": len(gone), "bytes": sum(expired.bytes for expired in gone)})
        # What a crashed sweep left, too.
        self._store.empty_trash()
        return page is not None

    def dry_run(self, *, limit: int = MOST_LISTED) -> CollectionRun:
        """What a round would remove now, the first `limit` of it."""
        found = list(islice(chain.from_iterable(self._expiry.pages()), limit + 1))
        return CollectionRun(found[:limit], more=len(found) > limit)

    def collect(self, *, limit: int = MOST_LISTED) -> CollectionRun:
        """Remove what a round would, up to `limit`."""
        seen = self.dry_run(limit=limit)
        gone = [expired for expired in seen.found if self._removed(expired)]
        self._store.empty_trash()
        return CollectionRun(gone, more=seen.more and bool(gone))

    def remove(self, seen: Expired) -> bool:
        """Remove what was seen to have expired; False where that is no longer so. Raises Unavailable, OSError.

        Should the commit fail after the folder went, the row is left: whoever reuses artifacts asks the store too.
        """
        if not self._expiry.still_old(seen):
            return False
        with self._database.write() as session:
            if seen.key is not None:
                lock_key(session, seen.key)
            folders = self._expiry.again(session, seen)
            if folders is None:
                return False
            if seen.kind is not None:
                session.connection().execute(delete(Artifact).where(col(Artifact.key) == seen.key))
            for folder in folders:
                self._store.trash(folder)
        return True

    def _steps(self) -> Iterator[Sequence[Expired]]:
        """Pages, and where much of one has expired, parts of it: a step must not hold up the process's end."""
        for page in self._expiry.pages():
            for start in range(0, max(len(page), 1), _MOST_REMOVED):
                yield page[start : start + _MOST_REMOVED]
        for lines in self._logs.forget():
            if lines:
                _log.info("log_lines_swept", extra={"lines": lines})
            yield ()

    def _removed(self, seen: Expired) -> bool:
        try:
            return self.remove(seen)
        except OSError as error:
            # One folder that will not go is no reason to keep all others.
            names = [folder.name for folder in seen.folders]
            _log.warning("sweep_failed", extra={"folders": names, "error": str(error)[:300]})
            return False


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
