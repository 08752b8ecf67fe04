"""The workers' calls: claim, renew, complete, fail and release a stage. Each method is one transaction.

The artifact store is asked before the transaction: a slow store must not hold a lock.
"""

from collections.abc import Callable
from contextlib import suppress

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, select

from craft.contracts.events import StageStatus
from craft.contracts.stages.artifacts import ArtifactRef, Manifest
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Fail, Release, Renew, Renewed
from craft.errors import Conflict, LeaseLost, NotFound
from craft.infra.settings.coordinator import CoordinatorSettings
from craft_gateway.lifecycle.attempts import claimable, extend, hand_out, past_deadline, succeed, timeout_error
from craft_gateway.lifecycle.dispatch import Blocked
from craft_gateway.lifecycle.job_transaction import JobTransaction, job_transaction
from craft_gateway.lifecycle.reuse import ArtifactExists, reusable, stages_of
from craft_gateway.lifecycle.transitions import (
    advance,
    end_if_idle,
    give_back,
    lock_keys,
    lose,
)
from craft_gateway.scheduling.allowances import team_allowances, teams_out_of_seconds
from craft_gateway.scheduling.fair_share import next_stages
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Artifact, Stage

_SETTLED_AT_ONCE = 100


class WorkerCalls:
    """Together with `JobControl` and `Maintenance` the only writer of jobs and stages."""

    def __init__(
        self,
        database: Database,
        *,
        exists: ArtifactExists,
        settings: CoordinatorSettings,
        has_space: Callable[[], bool] = lambda: True,
    ) -> None:
        """`has_space`: whether the artifact store has space for the output of another stage."""
        self._database = database
        self._exists = exists
        self._settings = settings
        self._has_space = has_space

    def claim(self, stage_id: str, claim: Claim) -> ClaimedStage | None:
        """Give the worker a stage of its queue, or None where there is nothing to do. Raises NotFound.

        The message is a wake-up, not an order: `fair_share` chooses among the ready stages. A process does one stage at
        a time, so a stage that our records give to the same owner never reached it: it is given back first.
        """
        seen = self._stage(stage_id)
        for unheard in self._held_by(claim.owner):
            with suppress(LeaseLost), job_transaction(self._database, unheard.job_id) as unit:
                give_back(unit, unit.held(unheard.id, unheard.fence))
        if seen.queue is not claim.service or not self._has_space():
            return None
        for candidate in self._next_in_line(seen):
            if not self.take_over_if_done(candidate) and (claimed := self._claimed(candidate, claim)):
                return claimed
        return None

    def renew(self, stage_id: str, renew: Renew) -> Renewed:
        """Extend the lease and take in progress and log lines. Raises LeaseLost where the fence is old."""
        with job_transaction(self._database, self._stage(stage_id).job_id) as unit:
            return extend(unit, unit.held(stage_id, renew.fence), renew, self._settings)

    def complete(self, stage_id: str, complete: Complete) -> None:
        """Adopt the artifact and make ready what depends on it. Idempotent.

        Raises LeaseLost where the fence is old, Conflict where the artifact is another stage's or is not in the store.
        """
        seen, manifest = self._stage(stage_id), complete.manifest
        if manifest.key != seen.key:
            raise Conflict(f"The artifact {manifest.key[:12]} is not what the stage {seen.name} makes.")
        if seen.status is StageStatus.SUCCEEDED and seen.fence == complete.fence and not seen.reused:
            return
        if not self._exists(manifest.ref):
            raise Conflict(f"The artifact {manifest.key[:12]} is not in the store.", hint="Publish before completing.")
        with self._database.read() as session:
            ref = self._counting(session, seen, manifest)
            found = reusable(session, stages_of(session, seen.job_id), self._exists, finished={seen.name: ref})
        with job_transaction(self._database, seen.job_id) as unit:
            stage = unit.held(stage_id, complete.fence)
            unit.log(stage, complete.log_lines)
            lock_keys(unit.session, found)
            succeed(unit, stage, manifest, ref)
            advance(unit, found)
            end_if_idle(unit)
        self._settle_others(seen)

    def fail(self, stage_id: str, fail: Fail) -> None:
        """Retry the stage or fail the job. Raises LeaseLost where the fence is old."""

        def end(unit: JobTransaction, stage: Stage) -> None:
            unit.log(stage, fail.log_lines)
            lose(unit, stage, fail.error, most_attempts=self._settings.max_lost_attempts)

        self._end_attempt(stage_id, fail.fence, end)

    def release(self, stage_id: str, release: Release) -> None:
        """Take the stage back, without blame unless it is past its deadline. Raises LeaseLost on an old fence."""

        def end(unit: JobTransaction, stage: Stage) -> None:
            unit.log(stage, release.log_lines)
            if past_deadline(unit, stage):
                lose(unit, stage, timeout_error(stage), most_attempts=self._settings.max_lost_attempts)
            else:
                give_back(unit, stage)

        self._end_attempt(stage_id, release.fence, end)

    def _end_attempt(self, stage_id: str, fence: int, end: Callable[[JobTransaction, Stage], None]) -> None:
        seen = self._stage(stage_id)
        with job_transaction(self._database, seen.job_id) as unit:
            end(unit, unit.held(stage_id, fence))
        self._settle_others(seen)

    def settle(self, key: str, *, but: str | None = None) -> None:
        """Stages that waited for another job's attempt at `key` reuse its artifact, or are dispatched again.

        Each is a transaction of its own. A crash in between costs time only: maintenance finds them.
        """
        with self._database.read() as session:
            waiting = select(Stage).where(Stage.status == StageStatus.READY, Stage.key == key, Stage.id != but)
            stages = list(session.exec(waiting.limit(_SETTLED_AT_ONCE)))
        for stage in stages:
            if not self.take_over_if_done(stage):
                self._hint_again(stage)

    def take_over_if_done(self, seen: Stage) -> bool:
        """Let a ready stage whose artifact exists by now succeed with it. False where it is ready as before."""
        with self._database.read() as session:
            made = session.get(Artifact, seen.key)
            if made is None or seen.recompute or not self._exists(made.ref):
                return False
            found = reusable(session, stages_of(session, seen.job_id), self._exists)
        with job_transaction(self._database, seen.job_id) as unit:
            lock_keys(unit.session, found)
            advance(unit, found)
            # The artifact may have been collected since, or its job paused.
            return unit.stage(seen.id).status is not StageStatus.READY

    def held_up(self) -> Blocked:
        """The reasons for which free workers would not get ready stages now."""
        with self._database.read() as session:
            teams = teams_out_of_seconds(session, team_allowances(session), self._database.now(session))
        return Blocked(no_space=not self._has_space(), teams=teams)

    def _next_in_line(self, hinted: Stage) -> list[Stage]:
        with self._database.read() as session:
            return next_stages(session, hinted, team_allowances(session), self._database.now(session))

    def _held_by(self, owner: str) -> list[Stage]:
        with self._database.read() as session:
            held = select(Stage).where(Stage.status == StageStatus.RUNNING, Stage.owner == owner)
            return list(session.exec(held))

    def _claimed(self, seen: Stage, claim: Claim) -> ClaimedStage | None:
        try:
            with job_transaction(self._database, seen.job_id) as unit:
                stage = unit.stage(seen.id)
                teams = team_allowances(unit.session)
                if not claimable(unit, stage, teams):
                    return None
                return hand_out(unit, stage, claim, rules=self._settings, teams=teams)
        except IntegrityError:
            # Another stage with this key was claimed at the same moment.
            return None

    def _settle_others(self, stage: Stage) -> None:
        if stage.key is not None:
            self.settle(stage.key, but=stage.id)

    def _hint_again(self, seen: Stage) -> None:
        with job_transaction(self._database, seen.job_id) as unit:
            stage = unit.stage(seen.id)
            # A stage that falls due later will be dispatched then.
            if stage.status is StageStatus.READY and (stage.dispatched_at is None or stage.dispatched_at <= unit.now):
                unit.move(stage, StageStatus.READY, dispatched_at=unit.now)
                unit.hint(stage)

    def _counting(self, session: Session, stage: Stage, manifest: Manifest) -> ArtifactRef:
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
