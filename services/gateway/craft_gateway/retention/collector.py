"""Garbage collection: removes expired artifacts and old log lines."""

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func
from sqlmodel import Session, col, select

from craft.errors import Unavailable
from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.retention.expiry import PAGE, Expired, Expiry
from craft_gateway.retention.store import CollectableStore
from craft_gateway.store.database import Database, lock_key
from craft_gateway.store.paging import ListPage
from craft_gateway.store.tables import Artifact, Job, StageLog

MAX_LISTED = 1000
_MAX_REMOVED = 50
"""Items removed in one step of a cycle."""
_log = logging.getLogger("craft.retention")


class CollectionRun(NamedTuple):
    """The items that a run removed, or would remove. `more`: the run stopped at its limit, before the end."""

    expired: Sequence[Expired]
    more: bool


class GarbageCollector:
    """Removes expired artifacts and log lines. Several processes may run it at once, at any moment."""

    def __init__(
        self,
        database: Database,
        store: CollectableStore,
        settings: RetentionSettings,
        *,
        page: int = PAGE,
        on_skipped: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_skipped` is called for each item that could not be read or removed."""
        self._database = database
        self._store = store
        self._on_skipped = on_skipped
        self._expiry = Expiry(database, store, settings, page=page, on_skipped=on_skipped)
        self._logs = LogCollector(database, settings.log_lifetime, page=page)
        self._cycle: Iterator[Sequence[Expired]] | None = None

    def collect_page(self) -> bool:
        """Run one step of a cycle over everything: read a page and remove its expired items. False at the cycle's end.

        Only the cycle deletes log lines; `dry_run` and `collect` are limited to the store.
        """
        if self._cycle is None:
            self._cycle = self._steps()
        try:
            page = next(self._cycle, None)
        except BaseException:
            self._cycle = None  # a generator that raised cannot continue; the next step begins a new cycle
            raise
        if page is None:
            self._cycle = None
        removed = [expired for expired in page or () if self._try_remove(expired)]
        if removed:
            _log.info(
                "artifacts_collected",
                extra={"removed": len(removed), "bytes": sum(expired.bytes for expired in removed)},
            )
        # This also frees the space that a collector left when its process died.
        self._store.empty_trash()
        return page is not None

    def dry_run(self, *, limit: int = MAX_LISTED) -> CollectionRun:
        """List the first `limit` items that a cycle would remove now."""
        page = ListPage.of(chain.from_iterable(self._expiry.pages()), limit)
        return CollectionRun(page.rows, more=page.has_more)

    def collect(self, *, limit: int = MAX_LISTED) -> CollectionRun:
        """Remove the items that a cycle would remove now, up to `limit`."""
        listed = self.dry_run(limit=limit)
        removed = [expired for expired in listed.expired if self._try_remove(expired)]
        self._store.empty_trash()
        return CollectionRun(removed, more=listed.more and bool(removed))

    def remove(self, expired: Expired) -> bool:
        """Remove an expired item; return False if it is in use again. Raises Unavailable, OSError.

        If the commit fails after the folder was moved, the row stays. It does no harm: an artifact is reused only
        where the store has it too.
        """
        if not self._expiry.still_old(expired):
            return False
        with self._database.write() as session:
            if expired.key is not None:
                lock_key(session, expired.key)
            folders = self._expiry.recheck(session, expired)
            if folders is None:
                return False
            if expired.kind is not None:
                session.connection().execute(delete(Artifact).where(col(Artifact.key) == expired.key))
            for folder in folders:
                self._store.trash(folder)
        return True

    def _steps(self) -> Iterator[Sequence[Expired]]:
        """Yield pages, and large pages in parts: a long step would delay the end of the process."""
        for page in self._expiry.pages():
            for start in range(0, max(len(page), 1), _MAX_REMOVED):
                yield page[start : start + _MAX_REMOVED]
        for lines in self._logs.steps():
            if lines:
                _log.info("log_lines_deleted", extra={"lines": lines})
            yield ()

    def _try_remove(self, expired: Expired) -> bool:
        try:
            return self.remove(expired)
        except Unavailable:
            raise
        except Exception as error:  # one item that cannot be read or moved must not keep all others
            self._on_skipped()
            names = [folder.name for folder in expired.folders]
            _log.warning("collection_failed", extra={"folders": names, "error": str(error)[:300]})
            return False


MAX_LINES = 5000
"""Lines deleted in one transaction."""


class LogCollector:
    """Deletes the old log lines of jobs that are not pinned.

    `lifetime` counts from the job's end; None keeps the lines for ever. `page` is a number of jobs.
    """

    def __init__(
        self, database: Database, lifetime: timedelta | None, *, page: int, max_lines: int = MAX_LINES
    ) -> None:
        self._database = database
        self._lifetime = lifetime
        self._page = page
        self._most_lines = max_lines

    def steps(self) -> Iterator[int]:
        """Run one cycle: each step reads a page of jobs (0), or deletes some lines of one job (their number)."""
        after = ""
        while self._lifetime is not None and (jobs := self._jobs_with_lines(after)):
            yield 0
            for job_id in self._old(jobs):
                while lines := self._delete_some(job_id):
                    yield lines
            after = jobs[-1]

    def _jobs_with_lines(self, after: str) -> list[str]:
        """Return the next jobs that have lines, by id. Each costs one step in the index, however many lines it has."""
        jobs: list[str] = []
        with self._database.read() as session:
            while len(jobs) < self._page:
                following = select(func.min(StageLog.job_id)).where(StageLog.job_id > (jobs[-1] if jobs else after))
                job_id = session.exec(following).one()
                if job_id is None:
                    break
                jobs.append(job_id)
        return jobs

    def _old(self, jobs: Sequence[str]) -> Sequence[str]:
        with self._database.read() as session:
            old = select(Job.id).where(col(Job.id).in_(jobs), *self._is_old(session))
            return session.exec(old.order_by(col(Job.id))).all()

    def _delete_some(self, job_id: str) -> int:
        with self._database.write() as session:
            # The lock on the row orders this and a pin of the job: the pin keeps the lines that are left then.
            old = select(Job.id).where(Job.id == job_id, *self._is_old(session)).with_for_update()
            if session.exec(old).first() is None:
                return 0
            first = session.exec(select(func.min(StageLog.seq)).where(StageLog.job_id == job_id)).one()
            if first is None:
                return 0
            lines = delete(StageLog).where(col(StageLog.job_id) == job_id, col(StageLog.seq) < first + self._most_lines)
            return session.connection().execute(lines).rowcount

    def _is_old(self, session: Session) -> tuple[ColumnElement[bool], ...]:
        """Return the conditions of a job whose log lines have expired."""
        before: datetime = self._database.now(session) - (self._lifetime or timedelta())
        return col(Job.finished_at) <= before, ~col(Job.pinned)
