"""The workers' calls: claim, renew, complete, fail and release a stage. Each method is one transaction.

The artifact store is asked before the transaction: a slow store must not hold a lock.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, select

from craft.contracts.events import StageStatus
from craft.contracts.stages.artifacts import ArtifactRef, Manifest
from craft.contracts.stages.claims import ANSWER_SECONDS, Claim, ClaimedStage, Complete, Fail, Release, Renew, Renewed
from craft.errors import ArtifactDamaged, Conflict, LeaseLost, NotFound
from craft.infra.ids import new_id
from craft.infra.settings.coordinator import CoordinatorSettings
from craft_gateway.leases.unheard import Report, UnheardReports
from craft_gateway.lifecycle.attempts import claimable, extend, hand_out, past_deadline, succeed, timeout_error
from craft_gateway.lifecycle.damage import damaged_inputs, remake_inputs, retryable
from craft_gateway.lifecycle.dispatch import Blocked
from craft_gateway.lifecycle.job_transaction import JobTransaction, job_transaction
from craft_gateway.lifecycle.limits import keep_limits
from craft_gateway.lifecycle.reuse import ArtifactExists, reusable, stages_of
from craft_gateway.lifecycle.transitions import (
    advance,
    awaits_input,
    end_if_nothing_runs,
    requeue,
    retry_or_fail,
)
from craft_gateway.scheduling.allowances import team_allowances, teams_over_gpu_quota
from craft_gateway.scheduling.device_failures import avoids
from craft_gateway.scheduling.fair_share import next_stages
from craft_gateway.store.database import Database, lock_keys
from craft_gateway.store.tables import Artifact, Stage

_WOKEN_AT_ONCE = 100
_LATE_SECONDS = 0.8 * ANSWER_SECONDS
"""An answer later than this may find that its worker has hung up."""
_OFFERED_AGAIN = timedelta(seconds=5)
"""A message that reached a worker from which its stage is kept is sent again after this time."""


class WorkerCalls:
    """Together with `JobControl` and `Maintenance` the only writer of jobs and stages.

    `coordinator` names this process among those that take workers' calls. `unheard` are reports that it could not
    store.
    """

    def __init__(
        self,
        database: Database,
        *,
        exists: ArtifactExists,
        settings: CoordinatorSettings,
        has_space: Callable[[], bool] = lambda: True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`has_space`: whether the artifact store has space for the output of another stage."""
        self._database = database
        self._exists = exists
        self._settings = settings
        self._has_space = has_space
        self._monotonic = monotonic
        self.coordinator = new_id("coord")
        self.unheard = UnheardReports()

    def claim(self, stage_id: str, claim: Claim) -> ClaimedStage | None:
        """Give the worker a stage of its queue, or None if there is nothing to do. Raises NotFound.

        The message is a wake-up, not an order: `fair_share` chooses among the ready stages. A process does one stage at
        a time: a stage still recorded for it never reached it, since the response was lost, and is requeued first.
        """
        began = self._monotonic()
        seen = self._stage(stage_id)
        for unaware in self._owned_by(claim.owner):
            with suppress(LeaseLost), job_transaction(self._database, unaware.job_id) as transaction:
                requeue(transaction, transaction.leased(unaware.id, unaware.fence))
        if seen.queue is not claim.service or not self._has_space():
            return None
        for candidate in self._candidates(seen):
            if self._avoids(candidate, claim, named=candidate.id == stage_id):
                continue
            if not self.reuse_if_computed(candidate) and (claimed := self._claimed(candidate, claim)):
                self._note_late(Report(claimed.stage_id, claimed.fence), began)
                return claimed
        return None

    def renew(self, stage_id: str, renew: Renew) -> Renewed:
        """Extend the lease, take in progress and log lines, and keep the team's limits. Raises LeaseLost."""
        report = Report(stage_id, renew.fence)
        with self._heard(report), job_transaction(self._database, self._stage(stage_id).job_id) as transaction:
            stage = transaction.leased(stage_id, renew.fence)
            renewed = extend(transaction, stage, renew, coordinator=self.coordinator, settings=self._settings)
            if not renewed.stop:
                renewed = keep_limits(transaction, stage, renew, self._settings)
        if stage.status is StageStatus.FAILED:
            self._wake_others(stage)
        return renewed

    def complete(self, stage_id: str, complete: Complete) -> None:
        """Adopt the artifact and make ready what depends on it. Idempotent.

        Raises LeaseLost if the fence is old, Conflict if the artifact is another stage's or is not in the store.
        """
        with self._heard(Report(stage_id, complete.fence)):
            self._complete(stage_id, complete)

    def _complete(self, stage_id: str, complete: Complete) -> None:
        seen, manifest = self._stage(stage_id), complete.manifest
        if manifest.key != seen.key:
            raise Conflict(f"The artifact {manifest.key[:12]} is not what the stage {seen.name} makes.")
        if seen.status is StageStatus.SUCCEEDED and seen.fence == complete.fence and not seen.reused:
            return
        if not self._exists(manifest.ref):
            raise Conflict(f"The artifact {manifest.key[:12]} is not in the store.", hint="Publish before completing.")
        with self._database.read() as session:
            ref = self._canonical(session, seen, manifest)
            cached = reusable(session, stages_of(session, seen.job_id), self._exists, finished={seen.name: ref})
        with job_transaction(self._database, seen.job_id) as transaction:
            stage = transaction.leased(stage_id, complete.fence)
            transaction.log(stage, complete.log_lines)
            lock_keys(transaction.session, cached)
            succeed(transaction, stage, manifest, ref)
            advance(transaction, cached)
            end_if_nothing_runs(transaction)
        self._wake_others(seen)

    def fail(self, stage_id: str, fail: Fail) -> None:
        """Retry the stage or fail the job; a damaged input is made again first. Raises LeaseLost on an old fence."""
        of_input = fail.error.code == ArtifactDamaged.code
        damaged = self._damaged_inputs(stage_id) if of_input else frozenset()

        def end(transaction: JobTransaction, stage: Stage) -> None:
            transaction.log(stage, fail.log_lines)
            if damaged or (of_input and awaits_input(transaction, stage)):
                remake_inputs(transaction, stage, fail.error, damaged)
                return
            # Of an input that is undamaged by now, another attempt may make use.
            error = retryable(fail.error) if of_input else fail.error
            retry_or_fail(transaction, stage, error, max_attempts=self._settings.max_lost_attempts)

        self._end_attempt(stage_id, fail.fence, end)

    def release(self, stage_id: str, release: Release) -> None:
        """Requeue the stage; past its deadline that counts as a failed attempt. Raises LeaseLost on an old fence."""

        def end(transaction: JobTransaction, stage: Stage) -> None:
            transaction.log(stage, release.log_lines)
            if past_deadline(transaction, stage):
                retry_or_fail(transaction, stage, timeout_error(stage), max_attempts=self._settings.max_lost_attempts)
            else:
                requeue(transaction, stage)

        self._end_attempt(stage_id, release.fence, end)

    def _end_attempt(self, stage_id: str, fence: int, end: Callable[[JobTransaction, Stage], None]) -> None:
        with self._heard(Report(stage_id, fence)):
            seen = self._stage(stage_id)
            with job_transaction(self._database, seen.job_id) as transaction:
                end(transaction, transaction.leased(stage_id, fence))
        self._wake_others(seen)

    @contextmanager
    def _heard(self, report: Report) -> Iterator[None]:
        """Remember a report that is not stored, or so late that its worker has hung up: the worker is alive."""
        began = self._monotonic()
        try:
            yield
        except (NotFound, LeaseLost, Conflict):
            raise
        except Exception:
            self.unheard.add([report])
            raise
        self._note_late(report, began)

    def _note_late(self, report: Report, began: float) -> None:
        if self._monotonic() - began > _LATE_SECONDS:
            self.unheard.add([report])

    def wake_waiting(self, key: str, *, but: str | None = None) -> None:
        """Stages that waited for another job's attempt at `key` reuse its artifact, or are dispatched again.

        Each is a transaction of its own. A crash in between costs time only: maintenance finds them.
        """
        with self._database.read() as session:
            waiting = select(Stage).where(Stage.status == StageStatus.READY, Stage.key == key, Stage.id != but)
            stages = list(session.exec(waiting.limit(_WOKEN_AT_ONCE)))
        for stage in stages:
            if not self.reuse_if_computed(stage):
                self._redispatch(stage)

    def reuse_if_computed(self, seen: Stage) -> bool:
        """Let a ready stage succeed at once with an artifact that exists by now. False if it stays ready."""
        with self._database.read() as session:
            made = session.get(Artifact, seen.key)
            if made is None or seen.recompute or not self._exists(made.ref):
                return False
            cached = reusable(session, stages_of(session, seen.job_id), self._exists)
        with job_transaction(self._database, seen.job_id) as transaction:
            lock_keys(transaction.session, cached)
            advance(transaction, cached)
            # The artifact may have been collected since, or its job paused.
            return transaction.stage(seen.id).status is not StageStatus.READY

    def blocked(self) -> Blocked:
        """The reasons for which free workers would not get ready stages now."""
        with self._database.read() as session:
            teams = teams_over_gpu_quota(session, team_allowances(session), self._database.now(session))
        return Blocked(no_space=not self._has_space(), teams=teams)

    def _candidates(self, named: Stage) -> list[Stage]:
        with self._database.read() as session:
            return next_stages(session, named, team_allowances(session), self._database.now(session))

    def _damaged_inputs(self, stage_id: str) -> frozenset[ArtifactRef]:
        """Asked of the store, not of the worker, which cannot tell what others would find."""
        seen = self._stage(stage_id)
        with self._database.read() as session:
            stages = stages_of(session, seen.job_id)
        return damaged_inputs(seen, stages, self._exists)

    def _owned_by(self, owner: str) -> list[Stage]:
        with self._database.read() as session:
            held = select(Stage).where(Stage.status == StageStatus.RUNNING, Stage.owner == owner)
            return list(session.exec(held))

    def _avoids(self, seen: Stage, claim: Claim, *, named: bool) -> bool:
        """True if the stage is kept from this worker, whose device failed under it.

        The message that named the stage is then used up: another one follows, which another worker may get.
        """
        if seen.fence == 0:  # nobody has tried it
            return False
        with self._database.read() as session:
            if not avoids(session, seen, claim.owner, self._database.now(session)):
                return False
        if named:
            with job_transaction(self._database, seen.job_id) as transaction:
                stage = transaction.stage(seen.id)
                if stage.status is StageStatus.READY:
                    transaction.dispatch(stage, due=transaction.now + _OFFERED_AGAIN)
        return True

    def _claimed(self, seen: Stage, claim: Claim) -> ClaimedStage | None:
        try:
            with job_transaction(self._database, seen.job_id) as transaction:
                stage = transaction.stage(seen.id)
                teams = team_allowances(transaction.session)
                if not claimable(transaction, stage, teams):
                    return None
                return hand_out(
                    transaction, stage, claim, coordinator=self.coordinator, settings=self._settings, teams=teams
                )
        except IntegrityError:
            # Another stage with this key was claimed at the same moment.
            return None

    def _wake_others(self, stage: Stage) -> None:
        if stage.key is not None:
            self.wake_waiting(stage.key, but=stage.id)

    def _redispatch(self, seen: Stage) -> None:
        with job_transaction(self._database, seen.job_id) as transaction:
            stage = transaction.stage(seen.id)
            # A stage that falls due later will be dispatched then.
            if stage.status is StageStatus.READY and (
                stage.dispatch_at is None or stage.dispatch_at <= transaction.now
            ):
                transaction.move(stage, StageStatus.READY, dispatch_at=transaction.now)
                transaction.dispatch(stage)

    def _canonical(self, session: Session, stage: Stage, manifest: Manifest) -> ArtifactRef:
        """The bytes that count for the key: the first committed ones, while the store has them.

        Where a user asked for recomputation, the new ones.
        """
        first = None if stage.recompute else session.get(Artifact, manifest.key)
        return first.ref if first is not None and self._exists(first.ref) else manifest.ref

    def _stage(self, stage_id: str) -> Stage:
        with self._database.read() as session:
            stage = session.get(Stage, stage_id)
        if stage is None:
            raise NotFound(f"There is no stage {stage_id[:40]}.")
        return stage
