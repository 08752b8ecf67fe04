"""Whatever order workers, users and failures come in: one end for each job, fences that rise, events without gaps."""

from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from sqlmodel import col, select
from tests.services.gateway.rigs.postgres import ON_POSTGRESQL, URL
from tests.services.gateway.rigs.world import START, World, new_world, postgres_world

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.claims import ClaimedStage, Renew, StageProgress
from craft.core.strategies import Strategy
from craft.errors import Conflict, DiskFull, Internal, LeaseLost, WorkerLost
from craft_gateway.store.tables import Job, Outbox, Stage

_ERRORS = {"disk": DiskFull("full"), "lost": WorkerLost("killed"), "defect": Internal("a defect")}
_MAX_JOBS = 4


class Coordination(RuleBasedStateMachine):
    """Claims of every age stay in the bundle, so most of what is reported comes from zombies."""

    claims = Bundle("claims")

    @initialize()
    def start(self) -> None:
        self.stack = ExitStack()
        self.world: World = self.stack.enter_context(self.new_world())
        self.jobs: list[str] = []
        self.ends: dict[str, JobStatus] = {}
        self.fences: dict[str, int] = {}

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.drain()
        finally:
            self.stack.close()

    def new_world(self) -> AbstractContextManager[World]:
        return new_world(Path(mkdtemp(prefix="craft-machine-")))

    @rule(strategy=st.sampled_from([Strategy.CRAFT, Strategy.COR_RAIT]), seed=st.integers(0, 1))
    def create(self, strategy: Strategy, seed: int) -> None:
        if len(self.jobs) < _MAX_JOBS:
            self.jobs.append(self.world.create(strategy, seed=seed))

    @rule(target=claims, pick=st.integers(0, 10_000))
    def claim(self, pick: int) -> object:
        stages = self.all_stages()
        if not stages:
            return multiple()
        claimed = self.world.try_claim(stages[pick % len(stages)], f"worker-{pick}")
        if claimed is None:
            return multiple()
        assert claimed.fence > self.fences.get(claimed.stage_id, 0)
        self.fences[claimed.stage_id] = claimed.fence
        return claimed

    @rule(target=claims, pick=st.integers(0, 10_000))
    def claim_something_ready(self, pick: int) -> object:
        ready = [stage for stage in self.all_stages() if stage.status is StageStatus.READY]
        if not ready:
            return multiple()
        claimed = self.world.try_claim(ready[pick % len(ready)], f"worker-{pick}")
        if claimed is None:
            return multiple()
        assert claimed.fence > self.fences.get(claimed.stage_id, 0)
        self.fences[claimed.stage_id] = claimed.fence
        return claimed

    @rule(target=claims, claimed=claims)
    def another_worker_takes_over(self, claimed: ClaimedStage) -> object:
        """The quickest way to a zombie."""
        self.world.clock.advance(91)
        self.world.maintenance.reap()
        again = self.world.try_claim(self.now_of(claimed), "worker-2")
        if again is None:
            return multiple()
        assert again.fence > self.fences.get(again.stage_id, 0)
        self.fences[again.stage_id] = again.fence
        return again

    @rule(claimed=claims, other_bytes=st.booleans())
    def complete(self, claimed: ClaimedStage, other_bytes: bool) -> None:
        stage = self.now_of(claimed)
        before = self.picture()
        said_before = stage.status is StageStatus.SUCCEEDED and stage.fence == claimed.fence and not stage.reused
        try:
            self.world.complete(claimed, content="other" if other_bytes else "")
        except LeaseLost:
            assert not self.holds(stage, claimed)
            assert self.picture() == before
        else:
            assert self.holds(stage, claimed) or said_before
            assert not said_before or self.picture() == before

    @rule(claimed=claims, error=st.sampled_from(sorted(_ERRORS)))
    def fail(self, claimed: ClaimedStage, error: str) -> None:
        stage, before = self.now_of(claimed), self.picture()
        try:
            self.world.fail(claimed, _ERRORS[error])
        except LeaseLost:
            assert not self.holds(stage, claimed)
            assert self.picture() == before
        else:
            assert self.holds(stage, claimed)

    @rule(claimed=claims)
    def release(self, claimed: ClaimedStage) -> None:
        stage, before = self.now_of(claimed), self.picture()
        try:
            self.world.release(claimed)
        except LeaseLost:
            assert not self.holds(stage, claimed)
            assert self.picture() == before
        else:
            assert self.holds(stage, claimed)

    @rule(claimed=claims, done=st.integers(0, 10))
    def renew(self, claimed: ClaimedStage, done: int) -> None:
        stage = self.now_of(claimed)
        report = Renew(fence=claimed.fence, progress=StageProgress(done=done, total=10), log_lines=["a line"])
        try:
            renewed = self.world.calls.renew(claimed.stage_id, report)
        except LeaseLost:
            assert not self.holds(stage, claimed)
        else:
            assert self.holds(stage, claimed)
            moving = self.world.job(claimed.job_id).status in {JobStatus.QUEUED, JobStatus.RUNNING}
            assert renewed.stop or moving

    @rule(pick=st.integers(0, 100))
    def cancel(self, pick: int) -> None:
        if self.jobs:
            self.world.control.cancel(self.jobs[pick % len(self.jobs)])

    @rule(pick=st.integers(0, 100))
    def pause(self, pick: int) -> None:
        if self.jobs:
            with suppress(Conflict):
                self.world.control.pause(self.jobs[pick % len(self.jobs)])

    @rule(pick=st.integers(0, 100))
    def resume(self, pick: int) -> None:
        if self.jobs:
            with suppress(Conflict):
                self.world.control.resume(self.jobs[pick % len(self.jobs)])

    @rule(seconds=st.sampled_from([1, 30, 61, 91]))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.advance(seconds)

    @rule()
    def reap(self) -> None:
        leased = {s.id for s in self.all_stages() if s.status is StageStatus.RUNNING and not self.expired(s)}
        self.world.maintenance.reap()
        assert leased <= {s.id for s in self.all_stages() if s.status is StageStatus.RUNNING}

    @rule()
    def sweep(self) -> None:
        self.world.maintenance.redispatch()

    @rule()
    def relay(self) -> None:
        self.world.relay.send_due()

    @invariant()
    def events_have_no_gaps_and_at_most_one_end(self) -> None:
        for job_id in self.known_jobs():
            events, job = self.world.events(job_id), self.world.job(job_id)
            assert [event.seq for event in events] == list(range(1, job.event_seq + 1))
            ends = [event for event in events if event.type.terminal]
            assert len(ends) == int(job.status.terminal)
            assert not ends or events[-1] is ends[0]
            assert self.ends.setdefault(job_id, job.status) == job.status or not self.ends[job_id].terminal
            self.ends[job_id] = job.status

    @invariant()
    def stages_make_sense(self) -> None:
        running_keys: list[str | None] = []
        jobs = {job_id: self.world.job(job_id) for job_id in self.known_jobs()}
        for stage in self.all_stages() if jobs else []:
            assert 0 <= stage.lost_attempts < 3
            assert (stage.status is StageStatus.SUCCEEDED) == (stage.artifact is not None)
            assert (stage.status is StageStatus.RUNNING) == (stage.owner is not None)
            assert (stage.status is StageStatus.RUNNING) == (stage.lease_expires_at is not None)
            if stage.status is StageStatus.RUNNING:
                running_keys.append(stage.key)
            if jobs[stage.job_id].status.terminal or jobs[stage.job_id].status is JobStatus.CANCELLING:
                assert stage.status not in {StageStatus.PENDING, StageStatus.READY}
            if jobs[stage.job_id].status in {JobStatus.PAUSING, JobStatus.PAUSED}:
                assert stage.status is not StageStatus.READY
        assert len(running_keys) == len(set(running_keys))

    @invariant()
    def a_stage_that_waits_has_a_hint_or_will_get_one(self) -> None:
        hinted = {row.stage_id for row in self.outbox()} if self.known_jobs() else set()
        for stage in self.all_stages() if hinted else []:
            if stage.status is StageStatus.READY:
                assert stage.id in hinted or stage.dispatch_at is not None

    def known_jobs(self) -> list[str]:
        return getattr(self, "jobs", [])

    def all_stages(self) -> list[Stage]:
        with self.world.database.read() as session:
            return list(session.exec(select(Stage).order_by(col(Stage.id))))

    def outbox(self) -> list[Outbox]:
        return self.world.outbox()

    def now_of(self, claimed: ClaimedStage) -> Stage:
        return next(stage for stage in self.all_stages() if stage.id == claimed.stage_id)

    def holds(self, stage: Stage, claimed: ClaimedStage) -> bool:
        return stage.status is StageStatus.RUNNING and stage.fence == claimed.fence

    def expired(self, stage: Stage) -> bool:
        return stage.lease_expires_at is None or stage.lease_expires_at < self.world.clock.now

    def picture(self) -> object:
        """All that a zombie may not change."""
        with self.world.database.read() as session:
            jobs = [job.model_dump() for job in session.exec(select(Job).order_by(col(Job.id)))]
        return jobs, [stage.model_dump() for stage in self.all_stages()], len(self.outbox())

    def drain(self) -> None:
        """No job is lost: with workers that only ever do what the broker was told, every job ends."""
        world = self.world
        for job_id in self.jobs:
            if world.job(job_id).status in {JobStatus.PAUSING, JobStatus.PAUSED}:
                world.control.resume(job_id)
        for _ in range(400):
            if all(world.job(job_id).status.terminal for job_id in self.jobs):
                break
            world.clock.advance(91)
            world.maintenance.reap()
            world.maintenance.redispatch()
            world.relay.send_due()
            hints, world.broker.sent = world.broker.sent, []
            by_id = {stage.id: stage for stage in self.all_stages()}
            for _, stage_id in hints:
                claimed = world.try_claim(by_id[stage_id], "drain")
                if claimed is not None:
                    world.complete(claimed)
        assert all(world.job(job_id).status.terminal for job_id in self.jobs)
        self.events_have_no_gaps_and_at_most_one_end()
        self.stages_make_sense()
        assert world.clock.now >= START


class CoordinationOnPostgresql(Coordination):
    """The same rules where a transaction does not have the database for itself."""

    def new_world(self) -> AbstractContextManager[World]:
        return postgres_world(URL)


_RULES = settings(max_examples=10, stateful_step_count=35, deadline=None, suppress_health_check=list(HealthCheck))
TestCoordination = Coordination.TestCase
TestCoordination.settings = _RULES
TestCoordinationOnPostgresql = CoordinationOnPostgresql.TestCase
TestCoordinationOnPostgresql.settings = _RULES
for mark in ON_POSTGRESQL:
    mark(TestCoordinationOnPostgresql)
