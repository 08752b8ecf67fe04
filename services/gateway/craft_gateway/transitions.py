"""Every change of state that a user or a worker asks for. Each method is one transaction, with its events and hints.

What the artifact store has is asked before the transaction: a slow store must not hold a lock.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from craft.contracts.estimates import Estimate
from craft.contracts.events import StageStatus
from craft.contracts.job import JobStatus
from craft.contracts.stages import ArtifactRef, Claim, ClaimedStage, Complete, Fail, Manifest, Release, Renew, Renewed
from craft.errors import Conflict, LeaseLost, NotFound, Unavailable
from craft.infra.settings import CoordinatorSettings
from craft_gateway.database import Database
from craft_gateway.fair_share import BEGUN, next_in_line, teams_out_of_seconds
from craft_gateway.keys import HoldsArtifact, reusable, reusable_of_plan
from craft_gateway.plan import PlannedStage, ResolvedJob, plan
from craft_gateway.tables import Artifact, Stage
from craft_gateway.teams import teams_in
from craft_gateway.transitions_create import (
    NO_ORIGIN,
    CreatedJob,
    Idempotency,
    NewJob,
    Origin,
    earlier_jobs,
    store_jobs,
)
from craft_gateway.transitions_flow import (
    MOVING,
    PAUSES,
    advance,
    cancel,
    end_if_idle,
    give_back,
    lock_keys,
    lose,
    pause,
    resume,
)
from craft_gateway.transitions_hints import HeldUp, hint_next_job
from craft_gateway.transitions_report import (
    claimable,
    extend,
    hand_out,
    past_deadline,
    succeed,
    timeout_error,
)
from craft_gateway.transitions_unit import JobUnit

__all__ = ["CreatedJob", "HoldsArtifact", "Idempotency", "NewJob", "Origin", "Transitions"]

_SETTLED_AT_ONCE = 100


class Transitions:
    """The only writer of jobs and stages, together with `transitions_upkeep.Upkeep`."""

    def __init__(
        self,
        database: Database,
        *,
        holds: HoldsArtifact,
        settings: CoordinatorSettings,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """`has_room`: whether the artifact store has space for what another stage would write."""
        self._database = database
        self._holds = holds
        self._settings = settings
        self._has_room = has_room

    def reusable(self, stages: Sequence[PlannedStage], *, recompute: Container[str] = ()) -> Mapping[str, ArtifactRef]:
        """By name, what a new job with these stages need not compute, but for those of `recompute`."""
        with self._database.read() as session:
            return reusable_of_plan(session, stages, self._holds, recompute=recompute)

    def create_job(
        self,
        job: ResolvedJob,
        *,
        reused: Mapping[str, ArtifactRef] | None = None,
        origin: Origin = NO_ORIGIN,
        idempotency: Idempotency | None = None,
        new_data: bool = False,
        estimate: Estimate | None = None,
    ) -> CreatedJob:
        """Plan the job and store it: see `create_jobs` for what it raises. `reused` is looked up where it is None."""
        stages = plan(job)
        if reused is None:
            reused = self.reusable(stages, recompute=origin.recompute)
        new = NewJob(job, stages, reused, origin=origin, idempotency=idempotency, new_data=new_data, estimate=estimate)
        [created] = self.create_jobs([new])
        if isinstance(created, Exception):
            raise created
        return created

    def create_jobs(self, new: Sequence[NewJob]) -> list[CreatedJob | Exception]:
        """Store each job with its stages and queue what can run, in one transaction; or say what speaks against it.

        That is IdempotencyConflict where the same key came with another body, with `new_data` RequestInvalid where a
        dataset was deleted meanwhile, and Unavailable where the database does not answer.
        """
        if not new:
            return []
        try:
            with self._database.write() as session:
                return [*store_jobs(session, self._database.now, new)]
        except Unavailable as error:
            return [error] * len(new)
        except Exception as error:
            # Nothing was stored. Whatever is wrong with one of several is no other's concern.
            if len(new) > 1:
                return [outcome for each in new for outcome in self.create_jobs([each])]
            if isinstance(error, IntegrityError) and new[0].idempotency is not None:
                # PostgreSQL lets two requests with one key get this far; the second finds the first one's job.
                with self._database.read() as session:
                    [earlier] = earlier_jobs(session, [new[0].idempotency])
                return [earlier or error]
            return [error]

    def cancel(self, job_id: str) -> JobStatus:
        """Ask for the job's end: `cancelling` while a worker still has a stage, then `cancelled`.

        A job that has ended already stays as it is, and its status is returned. Raises NotFound.
        """
        with self.unit(job_id) as unit:
            if not unit.job.status.terminal and unit.job.status is not JobStatus.CANCELLING:
                cancel(unit)
            return unit.job.status

    def pause(self, job_id: str) -> JobStatus:
        """Start nothing more of the job: `pausing` while a worker still has a stage, then `paused`.

        One that pauses already stays as it is. Raises NotFound, Conflict where the job ends or has ended.
        """
        with self.unit(job_id) as unit:
            if unit.job.status in MOVING:
                pause(unit)
            elif unit.job.status not in PAUSES:
                raise Conflict(f"The job is {unit.job.status.value}; only one that waits or runs can be paused.")
            return unit.job.status

    def resume(self, job_id: str) -> JobStatus:
        """Go on where the job was paused. One that was not stays as it is. Raises NotFound, Conflict where it ended."""
        with self._database.read() as session:
            found = reusable(session, _stages_of(session, job_id), self._holds)
        with self.unit(job_id) as unit:
            if unit.job.status in PAUSES:
                resume(unit, found)
            elif unit.job.status not in MOVING:
                raise Conflict(
                    f"The job is {unit.job.status.value}; only a paused one can be resumed.",
                    hint="`retry` makes a new job of one that has ended.",
                )
            return unit.job.status

    def claim(self, stage_id: str, claim: Claim) -> ClaimedStage | None:
        """Give the worker a stage of its queue, or None where there is nothing to do. Raises NotFound.

        The hint is a turn, not an order: `fair_share` says which of the ready stages is next. What the same process
        holds by our records it never heard of, for it does one stage at a time: that is given back first.
        """
        seen = self._stage(stage_id)
        for unheard in self._held_by(claim.owner):
            with suppress(LeaseLost), self.unit(unheard.job_id) as unit:
                give_back(unit, unit.held(unheard.id, unheard.fence))
        if seen.queue is not claim.service or not self._has_room():
            return None
        for candidate in self._next_in_line(seen):
            if not self.take_over_if_done(candidate) and (claimed := self._claimed(candidate, claim)):
                return claimed
        return None

    def renew(self, stage_id: str, renew: Renew) -> Renewed:
        """Extend the lease and take in progress and log lines. Raises LeaseLost where the fence is old."""
        with self.unit(self._stage(stage_id).job_id) as unit:
            return extend(unit, unit.held(stage_id, renew.fence), renew, self._settings)

    def complete(self, stage_id: str, complete: Complete) -> None:
        """Adopt the artifact and queue what depends on it; saying so twice is the same as once.

        Raises LeaseLost where the fence is old, Conflict where the artifact is another stage's or is not in the store.
        """
        seen, manifest = self._stage(stage_id), complete.manifest
        if manifest.key != seen.key:
            raise Conflict(f"The artifact {manifest.key[:12]} is not what the stage {seen.name} makes.")
        if seen.status is StageStatus.SUCCEEDED and seen.fence == complete.fence and not seen.reused:
            return
        if not self._holds(manifest.ref):
            raise Conflict(f"The artifact {manifest.key[:12]} is not in the store.", hint="Publish before completing.")
        with self._database.read() as session:
            ref = self._counting(session, seen, manifest)
            found = reusable(session, _stages_of(session, seen.job_id), self._holds, finished={seen.name: ref})
        with self.unit(seen.job_id) as unit:
            stage = unit.held(stage_id, complete.fence)
            unit.log(stage, complete.log_lines)
            lock_keys(unit.session, found)
            succeed(unit, stage, manifest, ref)
            advance(unit, found)
            end_if_idle(unit)
        self._settle_others(seen)

    def fail(self, stage_id: str, fail: Fail) -> None:
        """Retry the stage or fail the job. Raises LeaseLost where the fence is old."""

        def end(unit: JobUnit, stage: Stage) -> None:
            unit.log(stage, fail.log_lines)
            lose(unit, stage, fail.error, most_attempts=self._settings.max_lost_attempts)

        self._end_attempt(stage_id, fail.fence, end)

    def release(self, stage_id: str, release: Release) -> None:
        """Take the stage back, without blame unless it is past its deadline. Raises LeaseLost on an old fence."""

        def end(unit: JobUnit, stage: Stage) -> None:
            unit.log(stage, release.log_lines)
            if past_deadline(unit, stage):
                lose(unit, stage, timeout_error(stage), most_attempts=self._settings.max_lost_attempts)
            else:
                give_back(unit, stage)

        self._end_attempt(stage_id, release.fence, end)

    def _end_attempt(self, stage_id: str, fence: int, end: Callable[[JobUnit, Stage], None]) -> None:
        seen = self._stage(stage_id)
        with self.unit(seen.job_id) as unit:
            end(unit, unit.held(stage_id, fence))
        self._settle_others(seen)

    def settle(self, key: str, *, but: str | None = None) -> None:
        """Stages that waited for another job's attempt at `key`: take over its artifact, or hint them again.

        Each is a transaction of its own. A crash in between costs time only: the sweep finds them.
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
            if made is None or seen.recompute or not self._holds(made.ref):
                return False
            found = reusable(session, _stages_of(session, seen.job_id), self._holds)
        with self.unit(seen.job_id) as unit:
            lock_keys(unit.session, found)
            advance(unit, found)
            # The artifact may have been swept since, or its job paused.
            return unit.stage(seen.id).status is not StageStatus.READY

    def held_up(self) -> HeldUp:
        """Whose stages free workers would not get just now."""
        with self._database.read() as session:
            teams = teams_out_of_seconds(session, teams_in(session), self._database.now(session))
        return HeldUp(no_room=not self._has_room(), teams=teams)

    def _next_in_line(self, hinted: Stage) -> list[Stage]:
        with self._database.read() as session:
            return next_in_line(session, hinted, teams_in(session), self._database.now(session))

    def _held_by(self, owner: str) -> list[Stage]:
        with self._database.read() as session:
            held = select(Stage).where(Stage.status == StageStatus.RUNNING, Stage.owner == owner)
            return list(session.exec(held))

    def _claimed(self, seen: Stage, claim: Claim) -> ClaimedStage | None:
        try:
            with self.unit(seen.job_id) as unit:
                stage = unit.stage(seen.id)
                teams = teams_in(unit.session)
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
        with self.unit(seen.job_id) as unit:
            stage = unit.stage(seen.id)
            # One that falls due later will be sent then.
            if stage.status is StageStatus.READY and (stage.hinted_at is None or stage.hinted_at <= unit.now):
                unit.move(stage, StageStatus.READY, hinted_at=unit.now)
                unit.hint(stage)

    def _counting(self, session: Session, stage: Stage, manifest: Manifest) -> ArtifactRef:
        """Which bytes count for the key: the first committed ones, while the store has them.

        Where it was computed again because somebody asked for it, the new ones.
        """
        first = None if stage.recompute else session.get(Artifact, manifest.key)
        return first.ref if first is not None and self._holds(first.ref) else manifest.ref

    def _stage(self, stage_id: str) -> Stage:
        with self._database.read() as session:
            stage = session.get(Stage, stage_id)
        if stage is None:
            raise NotFound(f"There is no stage {stage_id[:40]}.")
        return stage

    @contextmanager
    def unit(self, job_id: str) -> Iterator[JobUnit]:
        """One transaction on the job. Where it frees a place of its team, who waits for one is hinted. NotFound."""
        with self._database.write() as session:
            unit = JobUnit.open(session, self._database.now, job_id)
            begun = unit.job.status in BEGUN
            yield unit
            freed = begun and unit.job.status not in BEGUN
            if freed and teams_in(session).allowance(unit.job.team).max_running_jobs is not None:
                hint_next_job(session, unit.job.team, unit.now)


def _stages_of(session: Session, job_id: str) -> list[Stage]:
    return list(session.exec(select(Stage).where(Stage.job_id == job_id).order_by(col(Stage.position))))
