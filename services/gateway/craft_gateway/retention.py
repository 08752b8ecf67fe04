"""The sweep: what nothing needs any longer leaves the artifact store, each thing in a transaction of its own.

Log lines of jobs that ended long ago leave the database with it.

Taking over an artifact and handing out a stage lock the same key (`transitions_flow`, `transitions_report`): they
come before a sweep's transaction, which then finds the artifact needed, or after it, and find it gone.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from sqlalchemy import delete
from sqlmodel import col

from craft.infra.settings import RetentionSettings
from craft.infra.swept_store import SweptStore
from craft_gateway.database import Database
from craft_gateway.key_lock import lock_key
from craft_gateway.retention_expired import PAGE, Expired, Expiry
from craft_gateway.retention_logs import OldLogs
from craft_gateway.tables import Artifact

MOST_LISTED = 1000
_MOST_REMOVED = 50
"""In one step of a round."""
_log = logging.getLogger("craft.retention")


class Sweeping(NamedTuple):
    """What is gone, or would go. `more`: the limit was reached first."""

    found: Sequence[Expired]
    more: bool


class Retention:
    """Safe to run in several processes at once, and at any moment."""

    def __init__(self, database: Database, store: SweptStore, settings: RetentionSettings, *, page: int = PAGE) -> None:
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

    def dry_run(self, *, limit: int = MOST_LISTED) -> Sweeping:
        """What a round would remove now, the first `limit` of it."""
        found = list(islice(chain.from_iterable(self._expiry.pages()), limit + 1))
        return Sweeping(found[:limit], more=len(found) > limit)

    def collect(self, *, limit: int = MOST_LISTED) -> Sweeping:
        """Remove what a round would, up to `limit`."""
        seen = self.dry_run(limit=limit)
        gone = [expired for expired in seen.found if self._removed(expired)]
        self._store.empty_trash()
        return Sweeping(gone, more=seen.more and bool(gone))

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
