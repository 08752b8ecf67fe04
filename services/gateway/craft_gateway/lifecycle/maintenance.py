"""The coordinator's own work: reclaim expired leases, dispatch again, tidy the outbox. Paged and indexed."""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from sqlalchemy import delete, insert, or_, update
from sqlmodel import Session, col, exists, select

from craft.contracts.events import StageStatus
from craft.contracts.problems import StageError
from craft.errors import LeaseLost, Unavailable, WorkerLost
from craft.infra.settings.coordinator import CoordinatorSettings
from craft_gateway.leases.pulse import PulseWriter
from craft_gateway.leases.watch import ExpiredLease, LeaseWatch
from craft_gateway.lifecycle.attempts import past_deadline, timeout_error
from craft_gateway.lifecycle.dispatch import Blocked, dispatch_ready
from craft_gateway.lifecycle.job_transaction import JobTransaction, job_transaction
from craft_gateway.lifecycle.transitions import retry_or_fail
from craft_gateway.lifecycle.worker_calls import WorkerCalls
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Artifact, Outbox, Stage, StageLog

PAGE = 500
_SENT_KEPT = timedelta(hours=1)
_LAST_LINES = 20
_log = logging.getLogger("craft.coordinator")


class Redispatched(NamedTuple):
    """The numbers of one round; a full page means that more is waiting."""

    dispatched: int
    reused: int


class Maintenance:
    """Safe to run in several processes at once, and at any moment."""

    def __init__(
        self,
        database: Database,
        calls: WorkerCalls,
        *,
        settings: CoordinatorSettings,
        on_lease_lost: Callable[[Stage], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_lease_lost` is called after the commit that reclaimed a stage from a worker that is gone.

        `monotonic` counts the seconds of leases. It goes on while this process is stopped.
        """
        self._database = database
        self._calls = calls
        self._settings = settings
        self._on_lease_lost = on_lease_lost
        self._blocked = Blocked()
        self._rows = PulseWriter(
            database, coordinator=calls.coordinator, unheard=calls.unheard, settings=settings, monotonic=monotonic
        )
        self._watch = LeaseWatch(
            lease_seconds=settings.lease_seconds, silence_seconds=settings.silence_seconds, monotonic=monotonic
        )

    def dispatch_all(self) -> None:
        """Dispatch all that is ready: a broker that started anew with this process has lost earlier messages."""
        with self._database.write() as session:
            dispatch_ready(session, self._database.now(session), teams=None)

    def watch(self) -> list[ExpiredLease]:
        """Look at all leases; returns those that have expired. Raises Unavailable."""
        return self._watch.look(*self._rows.read())

    def reap(self) -> int:
        """Reclaim stages whose lease has expired, at most a page of them; returns how many. Raises Unavailable."""
        expired = {each.lease.stage_id: each for each in self.watch()[:PAGE]}
        if not expired:
            return 0
        with self._database.read() as session:
            stages = list(session.exec(select(Stage).where(col(Stage.id).in_(expired))))
        reclaimed = 0
        for stage in stages:
            lease, outage = expired[stage.id]
            if (stage.fence, stage.lease_expires_at) == (lease.fence, lease.expires_at):
                reclaimed += _isolated(partial(self._reclaim_or_extend, outage=outage), stage)
        return reclaimed

    def _reclaim_or_extend(self, seen: Stage, *, outage: bool) -> bool:
        try:
            return self.reclaim(seen, outage=outage)
        except Unavailable:
            # A job that somebody has locked: its worker's renewals cannot have been stored either.
            self._watch.extend(seen.id)
            raise

    def redispatch(self) -> Redispatched:
        """Dispatch ready stages again whose message is old; reuse artifacts that ready stages could have by now."""
        self._dispatch_unblocked()
        return Redispatched(dispatched=self._redispatch(), reused=self._reuse())

    def reclaim(self, seen: Stage, *, outage: bool = False) -> bool:
        """Reclaim one stage that was seen with an expired lease; False if it was renewed or ended meanwhile.

        With `outage` the attempt is not counted: its worker may have had nobody to renew the lease with.
        """
        with job_transaction(self._database, seen.job_id) as transaction:
            try:
                stage = transaction.leased(seen.id, seen.fence)
            except LeaseLost:
                # It was completed, requeued or claimed by another worker in the meantime.
                return False
            if stage.lease_expires_at != seen.lease_expires_at:
                return False
            error = _error(transaction, stage, outage=outage or stage.unheard)
            # No back-off: the lease time was delay enough.
            retry_or_fail(transaction, stage, error, max_attempts=self._settings.max_lost_attempts, backoff=False)
        if seen.key is not None:
            self._calls.wake_waiting(seen.key, but=seen.id)
        self._on_lease_lost(seen)
        return True

    def _dispatch_unblocked(self) -> None:
        """Messages sent while they were blocked had no effect, and the next ones are up to `resend_seconds` away."""
        blocked = self._calls.blocked()
        space_again = self._blocked.no_space and not blocked.no_space
        teams = self._blocked.teams - blocked.teams
        if space_again or teams:
            with self._database.write() as session:
                dispatch_ready(session, self._database.now(session), teams=None if space_again else teams)
        self._blocked = blocked

    def _redispatch(self) -> int:
        with self._database.write() as session:
            now = self._database.now(session)
            old = now - timedelta(seconds=self._settings.resend_seconds)
            on_its_way = exists().where(col(Outbox.stage_id) == col(Stage.id), col(Outbox.sent_at).is_(None))
            rows = session.exec(
                select(Stage.id, Stage.queue)
                .where(
                    Stage.status == StageStatus.READY,
                    or_(col(Stage.dispatch_at).is_(None), col(Stage.dispatch_at) < old),
                    ~on_its_way,
                )
                .order_by(col(Stage.dispatch_at))
                .limit(PAGE)
                # Another coordinator may do the same at this moment; one message is enough.
                .with_for_update(of=Stage, skip_locked=True)
            ).all()
            if rows:
                ids = [stage_id for stage_id, _ in rows]
                connection = session.connection()
                still_ready = (col(Stage.id).in_(ids), col(Stage.status) == StageStatus.READY)
                connection.execute(update(Stage).where(*still_ready).values(dispatch_at=now))
                messages = [{"stage_id": i, "queue": q, "created_at": now, "due_at": now} for i, q in rows]
                connection.execute(insert(Outbox), messages)
            _forget_sent(session, now)
        return len(rows)

    def _reuse(self) -> int:
        with self._database.read() as session:
            rows = session.exec(
                select(Stage)
                .join(Artifact, col(Artifact.key) == col(Stage.key))
                .where(Stage.status == StageStatus.READY, ~col(Stage.recompute))
                .limit(PAGE)
            )
            waiting = list(rows)
        return sum(_isolated(self._calls.reuse_if_computed, stage) for stage in waiting)


def _isolated(step: Callable[[Stage], bool], stage: Stage) -> bool:
    """Log the stage's error, so that the others of its page go on."""
    try:
        return step(stage)
    except Unavailable:
        raise
    except Exception:
        _log.exception("maintenance_failed", extra={"stage_id": stage.id, "job": stage.job_id})
        return False


def _error(transaction: JobTransaction, stage: Stage, *, outage: bool) -> StageError:
    if outage:
        return _interrupted(stage)
    return timeout_error(stage) if past_deadline(transaction, stage) else _lost(transaction.session, stage)


def _interrupted(stage: Stage) -> StageError:
    error = Unavailable(
        f"The coordinator or the database was away while the stage {stage.name} ran.",
        hint="Nothing needs to be done: the stage runs again, and the attempt is not counted.",
    )
    return StageError.of(error)


def _lost(session: Session, stage: Stage) -> StageError:
    newest = (
        select(StageLog.line).where(StageLog.stage_id == stage.id).order_by(col(StageLog.seq).desc()).limit(_LAST_LINES)
    )
    lines = list(session.exec(newest))[::-1]
    error = WorkerLost(
        f"The worker of the stage {stage.name} stopped renewing its lease.",
        hint="Look for a killed process or a machine out of memory.",
    )
    return StageError.of(error).model_copy(update={"last_log_lines": lines})


def _forget_sent(session: Session, now: datetime) -> None:
    sent = select(Outbox.id).where(col(Outbox.sent_at) < now - _SENT_KEPT).limit(PAGE)
    session.connection().execute(delete(Outbox).where(col(Outbox.id).in_(sent)))
