"""What the coordinator does by itself: take back lost leases, send hints again, tidy the outbox. Paged and indexed."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, insert, or_, update
from sqlmodel import Session, col, exists, select

from craft.contracts.events import StageStatus
from craft.contracts.problems import StageError
from craft.errors import LeaseLost, Unavailable, WorkerLost
from craft.infra.settings.coordinator import CoordinatorSettings
from craft_gateway.lifecycle.attempts import past_deadline, timeout_error
from craft_gateway.lifecycle.dispatch import Blocked, dispatch_ready
from craft_gateway.lifecycle.job_transaction import job_transaction
from craft_gateway.lifecycle.transitions import lose
from craft_gateway.lifecycle.worker_calls import WorkerCalls
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Artifact, Outbox, Stage, StageLog

PAGE = 500
_SENT_KEPT = timedelta(hours=1)
_LAST_LINES = 20
_log = logging.getLogger("craft.coordinator")


class Redispatched(NamedTuple):
    """How much a sweep did; a full page means that more is waiting."""

    hinted: int
    taken_over: int


class Maintenance:
    """Safe to run in several processes at once, and at any moment."""

    def __init__(
        self,
        database: Database,
        calls: WorkerCalls,
        *,
        settings: CoordinatorSettings,
        on_lease_lost: Callable[[Stage], None] = lambda _: None,
    ) -> None:
        """`on_lease_lost` is called after the commit that took a stage back from a worker that is gone."""
        self._database = database
        self._calls = calls
        self._settings = settings
        self._on_lease_lost = on_lease_lost
        self._held_up = Blocked()

    def begin(self) -> None:
        """Hint all that is ready: a broker that was started anew with this process knows nothing of earlier hints."""
        with self._database.write() as session:
            dispatch_ready(session, self._database.now(session), teams=None)

    def reap(self) -> int:
        """Take back stages whose lease has run out (one without a lease counts as that); returns how many."""
        with self._database.read() as session:
            now = self._database.now(session)
            rows = session.exec(
                select(Stage)
                .where(Stage.status == StageStatus.RUNNING, _expired(now))
                .order_by(col(Stage.lease_expires_at))
                .limit(PAGE)
            )
            lost = list(rows)
        return sum(_alone(self.take_back, stage) for stage in lost)

    def sweep(self) -> Redispatched:
        """Hint ready stages again whose hint is old; take over artifacts that ready stages could have by now."""
        self._hint_who_is_held_up_no_longer()
        return Redispatched(hinted=self._hint_again(), taken_over=self._take_over())

    def take_back(self, seen: Stage) -> bool:
        """Take back one stage that was seen with its lease run out; False where that is no longer so."""
        with job_transaction(self._database, seen.job_id) as unit:
            try:
                stage = unit.held(seen.id, seen.fence)
            except LeaseLost:
                # It was completed, given back or taken by somebody else in the meantime.
                return False
            if stage.lease_expires_at is not None and stage.lease_expires_at >= unit.now:
                return False
            error = timeout_error(stage) if past_deadline(unit, stage) else _lost(unit.session, stage)
            # The lease was pause enough.
            lose(unit, stage, error, most_attempts=self._settings.max_lost_attempts, pause=False)
        if seen.key is not None:
            self._calls.settle(seen.key, but=seen.id)
        self._on_lease_lost(seen)
        return True

    def _hint_who_is_held_up_no_longer(self) -> None:
        """Hints that came meanwhile were taken in vain, and the next ones are up to `resend_seconds` away."""
        held_up = self._calls.held_up()
        room_again = self._held_up.no_space and not held_up.no_space
        teams = self._held_up.teams - held_up.teams
        if room_again or teams:
            with self._database.write() as session:
                dispatch_ready(session, self._database.now(session), teams=None if room_again else teams)
        self._held_up = held_up

    def _hint_again(self) -> int:
        with self._database.write() as session:
            now = self._database.now(session)
            old = now - timedelta(seconds=self._settings.resend_seconds)
            on_its_way = exists().where(col(Outbox.stage_id) == col(Stage.id), col(Outbox.sent_at).is_(None))
            rows = session.exec(
                select(Stage.id, Stage.queue)
                .where(
                    Stage.status == StageStatus.READY,
                    or_(col(Stage.dispatched_at).is_(None), col(Stage.dispatched_at) < old),
                    ~on_its_way,
                )
                .order_by(col(Stage.dispatched_at))
                .limit(PAGE)
                # Another coordinator may sweep at this moment; one hint is enough.
                .with_for_update(of=Stage, skip_locked=True)
            ).all()
            if rows:
                ids = [stage_id for stage_id, _ in rows]
                connection = session.connection()
                still_ready = (col(Stage.id).in_(ids), col(Stage.status) == StageStatus.READY)
                connection.execute(update(Stage).where(*still_ready).values(dispatched_at=now))
                hints = [{"stage_id": i, "queue": q, "created_at": now, "due_at": now} for i, q in rows]
                connection.execute(insert(Outbox), hints)
            _forget_sent(session, now)
        return len(rows)

    def _take_over(self) -> int:
        with self._database.read() as session:
            rows = session.exec(
                select(Stage)
                .join(Artifact, col(Artifact.key) == col(Stage.key))
                .where(Stage.status == StageStatus.READY, ~col(Stage.recompute))
                .limit(PAGE)
            )
            waiting = list(rows)
        return sum(_alone(self._calls.take_over_if_done, stage) for stage in waiting)


def _alone(step: Callable[[Stage], bool], stage: Stage) -> bool:
    """One stage that cannot be handled must not keep the others of its page from being."""
    try:
        return step(stage)
    except Unavailable:
        raise
    except Exception:
        _log.exception("upkeep_failed", extra={"stage_id": stage.id, "job": stage.job_id})
        return False


def _expired(now: datetime) -> ColumnElement[bool]:
    return or_(col(Stage.lease_expires_at).is_(None), col(Stage.lease_expires_at) < now)


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
