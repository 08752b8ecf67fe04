"""Garbage collection: which artifacts stay and which go, on SQLite and (`test_lifecycle_postgres`) on PostgreSQL."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import pytest
from sqlalchemy import QueuePool
from tests.services.gateway.rigs.retention_rig import LIFETIMES, RetentionRig, retention_rig
from tests.services.gateway.rigs.world import World, sha

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.kinds import RetentionClass, StageKind
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft.errors import NotFound, Unavailable
from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.retention.collector import LogCollector
from craft_gateway.retention.store import ArtifactFolders, StoredFolder
from craft_gateway.retention.uses import KeptBy, expiries
from craft_gateway.store.database import lock_key
from craft_gateway.store.tables import Artifact, Dataset, Deployment

WHOLE_LIFE = 30.0
"""The lifetime of a score in days, from its last use."""
MEANWHILE_SECONDS = 0.2
"""The time for concurrent work to end, or to block on the lock of the collector."""


def test_what_no_job_has_used_for_its_lifetime_goes(world: World) -> None:
    with retention_rig(world) as rig:
        old = rig.artifact("old")
        rig.job(old)
        rig.advance_days(1)
        young = rig.artifact("young")
        rig.job(young)
        rig.advance_days(WHOLE_LIFE - 1)
        rig.collect()
        assert (rig.has_row(old), rig.has_folder(old)) == (False, False)
        assert (rig.has_row(young), rig.has_folder(young)) == (True, True)
        assert rig.trash() == []


def test_the_last_job_that_used_it_decides(world: World) -> None:
    with retention_rig(world) as rig:
        shared = rig.artifact("shared")
        rig.job(shared)
        rig.advance_days(WHOLE_LIFE - 1)
        rig.job(shared)
        rig.advance_days(WHOLE_LIFE - 1)
        rig.collect()
        assert rig.has_folder(shared)
        rig.advance_days(1)
        rig.collect()
        assert not rig.has_folder(shared)


def test_each_class_has_its_own_lifetime(world: World) -> None:
    with retention_rig(world) as rig:
        kinds = (StageKind.SCORE, StageKind.TUNE, StageKind.REPORT)
        made = {kind: rig.artifact(kind.value, kind=kind) for kind in kinds}
        rig.job(*made.values())
        settings = RetentionSettings(intermediate_days=1, model_days=2, result_days=3)
        for days, left in ((1, kinds[1:]), (2, kinds[2:]), (3, ())):
            rig.advance_days(1)
            rig.collect(settings)
            assert tuple(kind for kind in kinds if rig.has_folder(made[kind])) == left, days


def test_a_class_without_a_lifetime_is_kept_for_ever(world: World) -> None:
    with retention_rig(world) as rig:
        report, score = rig.artifact("report", kind=StageKind.REPORT), rig.artifact("score")
        rig.job(report, score)
        rig.advance_days(36_000)
        rig.collect(RetentionSettings(result_days=None))
        assert (rig.has_folder(report), rig.has_folder(score)) == (True, False)


def test_what_no_stage_uses_counts_from_when_it_was_made(world: World) -> None:
    with retention_rig(world) as rig:
        unused = rig.artifact("unused")
        rig.advance_days(WHOLE_LIFE - 0.1)
        rig.collect()
        assert rig.has_row(unused)
        rig.advance_days(0.1)
        rig.collect()
        assert not rig.has_row(unused)


def test_what_a_job_that_has_not_ended_used_stays(world: World) -> None:
    with retention_rig(world) as rig:
        used = rig.artifact("used")
        rig.job(used)
        rig.job(used, ended=False)
        rig.advance_days(10 * WHOLE_LIFE)
        rig.collect()
        assert rig.has_folder(used)
        assert rig.use(used).kept_by == {KeptBy.JOB}


def test_everything_that_keeps_an_artifact_is_told(world: World) -> None:
    with retention_rig(world) as rig:
        used = rig.artifact("used")
        first = rig.job(used)
        world.control.pin(first)
        rig.job(used, ended=False)
        assert rig.use(used).kept_by == {KeptBy.JOB, KeptBy.PIN}
        assert rig.use(used).last_used_at == world.clock.now


def test_a_running_stage_keeps_what_its_job_made_even_after_the_jobs_end(world: World) -> None:
    with retention_rig(world) as rig:
        read = rig.artifact("read")
        job_id = rig.job(read)
        # The job failed in another stage; this stage's worker does not know that yet, and reads.
        rig.set_stage(job_id, "report", status=StageStatus.RUNNING)
        rig.advance_days(WHOLE_LIFE)
        rig.collect()
        assert rig.has_folder(read)
        rig.set_stage(job_id, "report", status=StageStatus.SKIPPED)
        rig.collect()
        assert not rig.has_folder(read)


def test_what_a_waiting_stage_may_take_over_stays(world: World) -> None:
    with retention_rig(world) as rig:
        wanted = rig.artifact("wanted")
        job_id = rig.job(ended=False)
        rig.set_stage(job_id, "ingest", key=wanted.key)
        rig.advance_days(WHOLE_LIFE)
        rig.collect()
        assert rig.use(wanted).kept_by == {KeptBy.STAGE}
        assert rig.has_folder(wanted)
        rig.set_stage(job_id, "ingest", key=sha("another"))
        rig.collect()
        assert not rig.has_folder(wanted)


def test_what_a_pinned_job_used_stays_until_it_is_unpinned(world: World) -> None:
    with retention_rig(world) as rig:
        kept = rig.artifact("kept")
        pinned, _ = rig.job(kept), rig.job(kept)
        pins = world.control
        pins.pin(pinned)
        pins.pin(pinned)
        rig.advance_days(10 * WHOLE_LIFE)
        rig.collect()
        assert rig.has_folder(kept)
        assert rig.use(kept).kept_by == {KeptBy.PIN}
        pins.unpin(pinned)
        pins.unpin(pinned)
        rig.collect()
        assert not rig.has_folder(kept)


def test_only_a_job_that_exists_can_be_pinned(world: World) -> None:
    with pytest.raises(NotFound):
        world.control.pin("cjob_none")


def test_a_served_adapter_stays_until_it_is_withdrawn(world: World) -> None:
    with retention_rig(world) as rig:
        adapter = rig.artifact("adapter", kind=StageKind.PACKAGE)
        row = Deployment(
            id="adpt_1",
            job_id=rig.job(adapter),
            strategy=Strategy.CRAFT,
            artifact_key=adapter.key,
            artifact_digest=adapter.digest,
            base={},
            created_at=world.clock.now,
        )
        with world.database.write() as session:
            session.add(row)
        rig.advance_days(400)
        rig.collect()
        assert rig.has_folder(adapter)
        assert rig.use(adapter).kept_by == {KeptBy.DEPLOYMENT}
        with world.database.write() as session:
            session.delete(row)
        rig.collect()
        assert not rig.has_folder(adapter)


def test_a_dataset_stays_as_long_as_its_row(world: World) -> None:
    with retention_rig(world) as rig:
        dataset, forgotten = rig.publish("dataset"), rig.publish("a dataset without a row")
        for ref in (dataset, forgotten):
            rig.age_folder(rig.path(ref), days=1000)
        with world.database.write() as session:
            session.add(
                Dataset(
                    team="default",
                    id="dset_1",
                    task=Task.OPEN_ENDED,
                    rows=1,
                    key=dataset.key,
                    digest=dataset.digest,
                    content_hash=dataset.key,
                    created_at=world.clock.now,
                )
            )
        rig.collect()
        assert (rig.has_folder(dataset), rig.has_folder(forgotten)) == (True, False)


def test_an_artifact_taken_over_between_the_sweeps_look_and_its_transaction_stays(world: World) -> None:
    with retention_rig(world) as rig:
        lost, taken = sorted([rig.artifact("lost"), rig.artifact("taken")], key=lambda made: made.key)
        rig.job(lost, taken)
        rig.advance_days(WHOLE_LIFE)
        expired = rig.expired()
        assert [expired.key for expired in expired] == [lost.key, taken.key]
        rig.job(taken, ended=False)
        assert [rig.collector().remove(expired) for expired in expired] == [True, False]
        assert (rig.has_row(taken), rig.has_folder(taken)) == (True, True)
        assert not rig.has_folder(lost)


def test_an_artifact_pinned_between_the_sweeps_look_and_its_transaction_stays(world: World) -> None:
    with retention_rig(world) as rig:
        made = rig.artifact("made")
        job_id = rig.job(made)
        rig.advance_days(WHOLE_LIFE)
        (expired,) = rig.expired()
        world.control.pin(job_id)
        assert not rig.collector().remove(expired)
        assert rig.has_folder(made)


def test_a_stage_claimed_between_the_sweeps_look_and_its_transaction_keeps_its_artifact(world: World) -> None:
    with retention_rig(world) as rig:
        job_id = rig.job(ended=False)
        key = world.stage(job_id, "ingest").key
        left = rig.publish("left by a lost worker", key=key)
        rig.set_stage(job_id, "ingest", key=sha("not yet"))
        rig.age_folder(rig.path(left), days=2)
        (expired,) = rig.expired()
        rig.set_stage(job_id, "ingest", key=key)
        world.claim(job_id, "ingest")
        assert not rig.collector().remove(expired)
        assert rig.has_folder(left)


class _ConcurrentWork(ArtifactFolders):
    """Runs other work while the collector's transaction is open, just before it moves a folder."""

    def __init__(self, rig: RetentionRig, work: Callable[[], object]) -> None:
        super().__init__(rig.root)
        self._work = work
        self._thread = ThreadPoolExecutor(1)
        self.waited = False
        self.outcome: object = None

    def trash(self, folder: StoredFolder) -> None:
        self._running = self._thread.submit(self._work)
        try:
            self._running.result(timeout=MEANWHILE_SECONDS)
        except NotYet:
            self.waited = True
        super().trash(folder)

    def end(self) -> None:
        self.outcome = self._running.result()
        self._thread.shutdown()


def test_who_takes_over_while_the_sweep_is_at_it_waits_and_finds_nothing(world: World) -> None:
    with retention_rig(world) as rig:
        made = rig.artifact("made")
        rig.advance_days(WHOLE_LIFE)
        (expired,) = rig.expired()

        def row_exists() -> bool:
            with world.database.write() as session:
                lock_key(session, made.key)
                return session.get(Artifact, made.key) is not None

        store = _ConcurrentWork(rig, row_exists)
        assert rig.collector(store=store).remove(expired)
        store.end()
        assert (store.waited, store.outcome) == (True, False)
        assert not rig.has_folder(made)


def test_a_job_that_found_an_artifact_which_the_sweep_takes_computes_it_again(world: World) -> None:
    with retention_rig(world) as rig:
        first = rig.job(ended=False)
        made = rig.complete(world.claim(first, "ingest"))
        world.control.cancel(first)
        rig.advance_days(WHOLE_LIFE)
        (expired,) = rig.expired()
        # The new job looks for artifacts to reuse before its transaction, while row and folder still exist.
        store = _ConcurrentWork(rig, lambda: world.create(Strategy.VAN_TUNING))
        assert rig.collector(store=store).remove(expired)
        store.end()
        assert store.waited
        stage = world.stage(str(store.outcome), "ingest")
        assert (stage.status, stage.key, stage.reused) == (StageStatus.READY, made.key, False)


def test_a_pin_waits_for_the_sweep_of_what_it_would_keep(world: World) -> None:
    with retention_rig(world) as rig:
        made = rig.artifact("made")
        job_id = rig.job(made)
        rig.advance_days(WHOLE_LIFE)
        (expired,) = rig.expired()
        store = _ConcurrentWork(rig, lambda: world.control.pin(job_id))
        assert rig.collector(store=store).remove(expired)
        store.end()
        assert store.waited


def test_a_key_that_was_swept_is_computed_published_and_taken_over_again(world: World) -> None:
    with retention_rig(world) as rig:
        first = rig.job(ended=False)
        made = rig.complete(world.claim(first, "ingest"))
        world.control.cancel(first)
        rig.advance_days(WHOLE_LIFE)
        rig.collect()
        assert not rig.has_row(made)
        second = rig.job(ended=False)
        assert world.stage(second, "ingest").status is StageStatus.READY
        assert rig.complete(world.claim(second, "ingest")) == made
        assert rig.has_folder(made)
        third = rig.job(ended=False)
        assert world.stage(third, "ingest").reused


class _FailingCommit(ArtifactFolders):
    """The database fails after the folder was moved."""

    def trash(self, folder: StoredFolder) -> None:
        super().trash(folder)
        raise Unavailable("The database does not answer just now.")


def test_a_row_whose_folder_went_without_it_counts_for_nothing_and_goes_with_the_next_sweep(world: World) -> None:
    with retention_rig(world) as rig:
        first = rig.job(ended=False)
        made = rig.complete(world.claim(first, "ingest"))
        world.control.cancel(first)
        rig.advance_days(WHOLE_LIFE)
        with pytest.raises(Unavailable):
            rig.collector(store=_FailingCommit(rig.root)).collect_page()
        assert (rig.has_row(made), rig.has_folder(made)) == (True, False)
        second = rig.job(ended=False)
        assert not world.stage(second, "ingest").reused
        world.control.cancel(second)
        rig.advance_days(WHOLE_LIFE)
        rig.collect()
        assert not rig.has_row(made)
        assert rig.trash() == []


def test_trash_that_a_killed_sweep_left_is_removed(world: World) -> None:
    with retention_rig(world) as rig:
        rig.leave_trash()
        rig.collect()
        assert rig.trash() == []


class _ImmovableFolder(ArtifactFolders):
    """Cannot move one folder."""

    def __init__(self, rig: RetentionRig, stuck: ArtifactRef) -> None:
        super().__init__(rig.root)
        self._stuck = stuck

    def trash(self, folder: StoredFolder) -> None:
        if folder.key == self._stuck.key:
            raise PermissionError("not yours")
        super().trash(folder)


def test_a_folder_that_will_not_go_keeps_its_row_and_holds_up_no_other(world: World) -> None:
    with retention_rig(world) as rig:
        stuck, other = sorted([rig.artifact("one"), rig.artifact("two")], key=lambda made: made.key)
        rig.advance_days(WHOLE_LIFE)
        collector = rig.collector(store=_ImmovableFolder(rig, stuck))
        while collector.collect_page():
            pass
        assert (rig.has_row(stuck), rig.has_folder(stuck)) == (True, True)
        assert (rig.has_row(other), rig.has_folder(other)) == (False, False)


def test_bytes_that_no_longer_count_stay_and_go_with_their_row(world: World) -> None:
    with retention_rig(world) as rig:
        counts = rig.artifact("counts")
        before = rig.publish("came out before", key=counts.key)
        with world.database.write() as session:
            row = session.get(Artifact, counts.key)
            assert row is not None
            row.other_digests = [before.digest]
        rig.job(counts)
        rig.age_folder(rig.path(before), days=2)
        rig.collect()
        assert rig.has_folder(before)
        rig.age_folder(rig.path(before), days=0)
        rig.advance_days(WHOLE_LIFE)
        rig.collect()
        assert (rig.has_folder(before), rig.has_folder(counts), rig.has_row(counts)) == (False, False, False)


def test_scratch_goes_once_it_is_old_and_no_worker_has_it(world: World) -> None:
    with retention_rig(world) as rig:
        job_id = rig.job(ended=False)
        claimed = world.claim(job_id, "ingest")
        at_work = rig.age_folder(rig.scratch(claimed.stage_id, claimed.fence), days=2)
        lost = rig.age_folder(rig.scratch(claimed.stage_id, claimed.fence - 1), days=2)
        young = rig.age_folder(rig.scratch(claimed.stage_id, claimed.fence - 1), days=0.9)
        upload = rig.age_folder(rig.store.scratch("dataset"), days=2)
        growing = rig.age_folder(rig.store.scratch("dataset"), days=2)
        (growing / "rows.jsonl").write_text("more")
        rig.collect()
        assert [folder.exists() for folder in (at_work, lost, young, upload, growing)] == [
            True,
            False,
            True,
            False,
            True,
        ]


def test_a_checkpoint_stays_while_a_stage_may_resume_from_it(world: World) -> None:
    with retention_rig(world) as rig:
        job_id = rig.job(ended=False)
        key = world.stage(job_id, "ingest").key or ""
        wanted, old, young = (rig.store.checkpoint(name) for name in (key, sha("old"), sha("young")))
        for folder, days in ((wanted, 100.0), (old, 7.0), (young, 6.9)):
            (folder / "step").write_text("5")
            rig.age_folder(folder, days)
        rig.collect()
        assert [folder.exists() for folder in (wanted, old, young)] == [True, False, True]
        world.control.cancel(job_id)
        rig.collect()
        assert not wanted.exists()


def test_a_checkpoint_that_is_still_written_to_is_young(world: World) -> None:
    with retention_rig(world) as rig:
        folder = rig.age_folder(rig.store.checkpoint(sha("a stage")), days=100)
        step = folder / "checkpoint-10"
        step.mkdir()
        rig.age_folder(folder, days=100)
        (step / "weights").write_text("0")
        rig.collect()
        assert folder.exists()


def test_published_bytes_that_no_row_knows_go_once_they_are_old(world: World) -> None:
    with retention_rig(world) as rig:
        job_id = rig.job(ended=False)
        running = rig.publish("published, not reported yet", key=world.claim(job_id, "ingest").key)
        old, young = rig.publish("old"), rig.publish("young")
        for ref, days in ((running, 100.0), (old, 1.0), (young, 0.9)):
            rig.age_folder(rig.path(ref), days)
        rig.collect()
        assert [rig.has_folder(ref) for ref in (running, old, young)] == [True, False, True]


def test_published_bytes_are_young_again_when_they_are_published_again(world: World) -> None:
    with retention_rig(world) as rig:
        ref = rig.publish("the same")
        rig.age_folder(rig.path(ref), days=2)
        assert rig.publish("the same") == ref
        rig.collect()
        assert rig.has_folder(ref)


def test_folders_that_are_not_the_stores_are_left_alone(world: World) -> None:
    with retention_rig(world) as rig:
        strangers = [rig.root / part / "lost+found" for part in ("artifacts", "checkpoints", "tmp")]
        for folder in strangers:
            folder.mkdir()
            rig.age_folder(folder, days=1000)
        rig.collect()
        assert all(folder.exists() for folder in strangers)


def test_a_dry_run_lists_what_would_go_and_removes_nothing(world: World) -> None:
    with retention_rig(world) as rig:
        made = rig.artifact("made")
        rig.job(made)
        used = world.clock.now
        rig.advance_days(WHOLE_LIFE)
        rig.age_folder(rig.store.checkpoint(sha("old")), days=8)
        expired, more = rig.collector().dry_run()
        assert not more
        artifact, checkpoint = expired
        assert (artifact.key, artifact.kind, artifact.retention_class) == (
            made.key,
            StageKind.SCORE,
            RetentionClass.INTERMEDIATE,
        )
        assert (artifact.last_used_at, artifact.expires_at) == (used, world.clock.now)
        assert artifact.bytes == sum(path.stat().st_size for path in rig.path(made).iterdir())
        assert (checkpoint.key, checkpoint.kind) == (sha("old"), None)
        assert (world.clock.now - checkpoint.last_used_at).total_seconds() == pytest.approx(8 * 86400, abs=60)
        assert rig.has_folder(made)
        assert rig.trash() == []


def test_what_goes_at_once_is_bounded_and_the_rest_is_announced(world: World) -> None:
    with retention_rig(world) as rig:
        for name in ("one", "two", "three"):
            rig.artifact(name)
        rig.advance_days(WHOLE_LIFE)
        collector = rig.collector()
        assert [len(run.expired) for run in (collector.dry_run(limit=2), collector.dry_run(limit=3))] == [2, 3]
        runs = [collector.collect(limit=2) for _ in range(3)]
        assert [(len(run.expired), run.more) for run in runs] == [(2, True), (1, False), (0, False)]


class _FailingOnce(ArtifactFolders):
    """A file system that fails at the first call."""

    away = True

    def now(self) -> float:
        if self.away:
            self.away = False
            raise OSError("stale file handle")
        return super().now()


def test_a_round_that_broke_off_begins_anew(world: World) -> None:
    with retention_rig(world) as rig:
        old = rig.age_folder(rig.store.checkpoint(sha("old")), days=8)
        collector = rig.collector(store=_FailingOnce(rig.root))
        with pytest.raises(OSError, match="stale"):
            collector.collect_page()
        while collector.collect_page():
            pass
        assert not old.exists()


def test_views_tell_when_things_expire_and_nothing_of_what_is_kept(world: World) -> None:
    with retention_rig(world) as rig:
        report, score, busy = rig.artifact("report", kind=StageKind.REPORT), rig.artifact("score"), rig.artifact("x")
        job_id = rig.job(score, busy)
        rig.set_stage(job_id, "report", artifact_key=report.key, artifact_digest=report.digest)
        rig.job(busy, ended=False)
        with world.database.read() as session:
            shown = expiries(session, world.stages(job_id).values(), LIFETIMES)
        days = {key: None if moment is None else (moment - world.clock.now).days for key, moment in shown.items()}
        assert days == {report.key: 365, score.key: 30, busy.key: None}
        with world.database.read() as session:
            assert expiries(session, [], LIFETIMES) == {}


def test_log_lines_go_so_long_after_their_jobs_end(world: World) -> None:
    with retention_rig(world) as rig:
        old, young, runs = rig.job(), rig.job(ended=False), rig.job(ended=False)
        for job_id in (old, young, runs):
            rig.write_log(job_id, 3)
        rig.advance_days(1)
        rig.set_job(young, status=JobStatus.FAILED, finished_at=world.clock.now)
        rig.advance_days(89)
        rig.collect()
        assert [rig.lines(job_id) for job_id in (old, young, runs)] == [[], [1, 2, 3], [1, 2, 3]]
        assert world.job(old).log_seq == 3


def test_log_lines_without_a_lifetime_and_those_of_pinned_jobs_stay(world: World) -> None:
    with retention_rig(world) as rig:
        pinned, other = rig.job(), rig.job()
        world.control.pin(pinned)
        for job_id in (pinned, other):
            rig.write_log(job_id, 2)
        rig.advance_days(1000)
        rig.collect(RetentionSettings(log_days=None))
        assert rig.lines(other) == [1, 2]
        rig.collect()
        assert (rig.lines(pinned), rig.lines(other)) == ([1, 2], [])


def test_a_pin_keeps_the_log_lines_that_are_left(world: World) -> None:
    with retention_rig(world) as rig:
        job_id = rig.job()
        rig.write_log(job_id, 7)
        rig.advance_days(90)
        logs = LogCollector(world.database, LIFETIMES.log_lifetime, page=10, max_lines=3)
        steps = logs.steps()
        assert [next(steps), next(steps)] == [0, 3]
        world.control.pin(job_id)
        assert list(steps) == []
        assert rig.lines(job_id) == [4, 5, 6, 7]


def test_log_lines_go_in_parts_and_jobs_are_looked_at_in_pages(world: World) -> None:
    with retention_rig(world) as rig:
        for lines in (7, 1, 2):
            rig.write_log(rig.job(), lines)
        rig.advance_days(90)
        logs = LogCollector(world.database, LIFETIMES.log_lifetime, page=2, max_lines=3)
        assert list(logs.steps()) == [0, 3, 3, 1, 1, 0, 2]
        assert list(logs.steps()) == []


class _CountingConnections(ArtifactFolders):
    """Counts the connections in use while folders are walked."""

    def __init__(self, rig: RetentionRig) -> None:
        super().__init__(rig.root)
        self._pool = rig.world.database.engine.pool
        self.in_use: list[int] = []

    def changed_at(self, folder: StoredFolder) -> float | None:
        self._count()
        return super().changed_at(folder)

    def bytes_of(self, folder: StoredFolder) -> int:
        self._count()
        return super().bytes_of(folder)

    def _count(self) -> None:
        assert isinstance(self._pool, QueuePool)
        self.in_use.append(self._pool.checkedout())


def test_no_transaction_waits_while_folders_are_walked(world: World) -> None:
    with retention_rig(world) as rig:
        made = rig.artifact("made")
        rig.job(made)
        rig.advance_days(WHOLE_LIFE)
        orphan = rig.publish("orphan")
        rig.age_folder(rig.path(orphan), days=2)
        store = _CountingConnections(rig)
        collector = rig.collector(store=store)
        while collector.collect_page():
            pass
        assert (rig.has_folder(made), rig.has_folder(orphan)) == (False, False)
        assert len(store.in_use) >= 4
        assert set(store.in_use) == {0}


class _WriteAfterMeasuring(ArtifactFolders):
    """Writes into a folder that was just measured."""

    def bytes_of(self, folder: StoredFolder) -> int:
        size = super().bytes_of(folder)
        (self._path(folder) / "more").write_text("more")
        return size


def test_a_folder_written_to_between_the_sweeps_look_and_its_removal_stays(world: World) -> None:
    with retention_rig(world) as rig:
        upload = rig.age_folder(rig.store.scratch("dataset"), days=2)
        collector = rig.collector(store=_WriteAfterMeasuring(rig.root))
        while collector.collect_page():
            pass
        assert upload.exists()
