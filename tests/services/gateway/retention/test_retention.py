"""What is kept and what goes. Every fact holds on SQLite and on PostgreSQL (`test_transitions_postgres`)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import pytest
from sqlalchemy import QueuePool
from tests.services.gateway.rigs.retention_rig import LIFETIMES, Storeroom, storeroom
from tests.services.gateway.rigs.world import World, sha

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.kinds import RetentionClass, StageKind
from craft.core.questions import Task
from craft.core.selection import Strategy
from craft.errors import NotFound, Unavailable
from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.retention.collector import OldLogs
from craft_gateway.retention.store import ArtifactFolders, StoredFolder
from craft_gateway.retention.uses import KeptBy, expiries
from craft_gateway.store.database import lock_key
from craft_gateway.store.tables import Artifact, Dataset, Deployment

WHOLE_LIFE = 30.0
"""Days that a score is kept after its last use."""
MEANWHILE_SECONDS = 0.2
"""How long a sweep gives somebody else to come to the end, or to wait for it."""


def test_what_no_job_has_used_for_its_lifetime_goes(world: World) -> None:
    with storeroom(world) as room:
        old = room.artifact("old")
        room.job(old)
        room.days_pass(1)
        young = room.artifact("young")
        room.job(young)
        room.days_pass(WHOLE_LIFE - 1)
        room.sweep()
        assert (room.knows(old), room.holds(old)) == (False, False)
        assert (room.knows(young), room.holds(young)) == (True, True)
        assert room.trash() == []


def test_the_last_job_that_used_it_decides(world: World) -> None:
    with storeroom(world) as room:
        shared = room.artifact("shared")
        room.job(shared)
        room.days_pass(WHOLE_LIFE - 1)
        room.job(shared)
        room.days_pass(WHOLE_LIFE - 1)
        room.sweep()
        assert room.holds(shared)
        room.days_pass(1)
        room.sweep()
        assert not room.holds(shared)


def test_each_class_has_its_own_lifetime(world: World) -> None:
    with storeroom(world) as room:
        kinds = (StageKind.SCORE, StageKind.TUNE, StageKind.REPORT)
        made = {kind: room.artifact(kind.value, kind=kind) for kind in kinds}
        room.job(*made.values())
        settings = RetentionSettings(intermediate_days=1, model_days=2, result_days=3)
        for days, left in ((1, kinds[1:]), (2, kinds[2:]), (3, ())):
            room.days_pass(1)
            room.sweep(settings)
            assert tuple(kind for kind in kinds if room.holds(made[kind])) == left, days


def test_a_class_without_a_lifetime_is_kept_for_ever(world: World) -> None:
    with storeroom(world) as room:
        report, score = room.artifact("report", kind=StageKind.REPORT), room.artifact("score")
        room.job(report, score)
        room.days_pass(36_000)
        room.sweep(RetentionSettings(result_days=None))
        assert (room.holds(report), room.holds(score)) == (True, False)


def test_what_no_stage_uses_counts_from_when_it_was_made(world: World) -> None:
    with storeroom(world) as room:
        unused = room.artifact("unused")
        room.days_pass(WHOLE_LIFE - 0.1)
        room.sweep()
        assert room.knows(unused)
        room.days_pass(0.1)
        room.sweep()
        assert not room.knows(unused)


def test_what_a_job_that_has_not_ended_used_stays(world: World) -> None:
    with storeroom(world) as room:
        used = room.artifact("used")
        room.job(used)
        room.job(used, ended=False)
        room.days_pass(10 * WHOLE_LIFE)
        room.sweep()
        assert room.holds(used)
        assert room.use(used).kept_by == {KeptBy.JOB}


def test_everything_that_keeps_an_artifact_is_told(world: World) -> None:
    with storeroom(world) as room:
        used = room.artifact("used")
        first = room.job(used)
        world.control.pin(first)
        room.job(used, ended=False)
        assert room.use(used).kept_by == {KeptBy.JOB, KeptBy.PIN}
        assert room.use(used).last_used_at == world.clock.now


def test_a_running_stage_keeps_what_its_job_made_even_after_the_jobs_end(world: World) -> None:
    with storeroom(world) as room:
        read = room.artifact("read")
        job_id = room.job(read)
        # The job failed elsewhere; this stage's worker has yet to hear of it, and reads.
        room.set_stage(job_id, "report", status=StageStatus.RUNNING)
        room.days_pass(WHOLE_LIFE)
        room.sweep()
        assert room.holds(read)
        room.set_stage(job_id, "report", status=StageStatus.SKIPPED)
        room.sweep()
        assert not room.holds(read)


def test_what_a_waiting_stage_may_take_over_stays(world: World) -> None:
    with storeroom(world) as room:
        wanted = room.artifact("wanted")
        job_id = room.job(ended=False)
        room.set_stage(job_id, "ingest", key=wanted.key)
        room.days_pass(WHOLE_LIFE)
        room.sweep()
        assert room.use(wanted).kept_by == {KeptBy.STAGE}
        assert room.holds(wanted)
        room.set_stage(job_id, "ingest", key=sha("another"))
        room.sweep()
        assert not room.holds(wanted)


def test_what_a_pinned_job_used_stays_until_it_is_unpinned(world: World) -> None:
    with storeroom(world) as room:
        kept = room.artifact("kept")
        pinned, _ = room.job(kept), room.job(kept)
        pins = world.control
        pins.pin(pinned)
        pins.pin(pinned)
        room.days_pass(10 * WHOLE_LIFE)
        room.sweep()
        assert room.holds(kept)
        assert room.use(kept).kept_by == {KeptBy.PIN}
        pins.unpin(pinned)
        pins.unpin(pinned)
        room.sweep()
        assert not room.holds(kept)


def test_only_a_job_that_exists_can_be_pinned(world: World) -> None:
    with pytest.raises(NotFound):
        world.control.pin("cjob_none")


def test_a_served_adapter_stays_until_it_is_withdrawn(world: World) -> None:
    with storeroom(world) as room:
        adapter = room.artifact("adapter", kind=StageKind.PACKAGE)
        row = Deployment(
            id="adpt_1",
            job_id=room.job(adapter),
            strategy=Strategy.CRAFT,
            artifact_key=adapter.key,
            artifact_digest=adapter.digest,
            base={},
            created_at=world.clock.now,
        )
        with world.database.write() as session:
            session.add(row)
        room.days_pass(400)
        room.sweep()
        assert room.holds(adapter)
        assert room.use(adapter).kept_by == {KeptBy.DEPLOYMENT}
        with world.database.write() as session:
            session.delete(row)
        room.sweep()
        assert not room.holds(adapter)


def test_a_dataset_stays_as_long_as_its_row(world: World) -> None:
    with storeroom(world) as room:
        dataset, forgotten = room.publish("dataset"), room.publish("nobody remembered it")
        for found in (dataset, forgotten):
            room.aged(room.path(found), days=1000)
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
        room.sweep()
        assert (room.holds(dataset), room.holds(forgotten)) == (True, False)


def test_an_artifact_taken_over_between_the_sweeps_look_and_its_transaction_stays(world: World) -> None:
    with storeroom(world) as room:
        lost, taken = sorted([room.artifact("lost"), room.artifact("taken")], key=lambda made: made.key)
        room.job(lost, taken)
        room.days_pass(WHOLE_LIFE)
        seen = room.expired()
        assert [expired.key for expired in seen] == [lost.key, taken.key]
        room.job(taken, ended=False)
        assert [room.retention().remove(expired) for expired in seen] == [True, False]
        assert (room.knows(taken), room.holds(taken)) == (True, True)
        assert not room.holds(lost)


def test_an_artifact_pinned_between_the_sweeps_look_and_its_transaction_stays(world: World) -> None:
    with storeroom(world) as room:
        made = room.artifact("made")
        job_id = room.job(made)
        room.days_pass(WHOLE_LIFE)
        (seen,) = room.expired()
        world.control.pin(job_id)
        assert not room.retention().remove(seen)
        assert room.holds(made)


def test_a_stage_claimed_between_the_sweeps_look_and_its_transaction_keeps_its_artifact(world: World) -> None:
    with storeroom(world) as room:
        job_id = room.job(ended=False)
        key = world.stage(job_id, "ingest").key
        left = room.publish("left by a lost worker", key=key)
        room.set_stage(job_id, "ingest", key=sha("not yet"))
        room.aged(room.path(left), days=2)
        (seen,) = room.expired()
        room.set_stage(job_id, "ingest", key=key)
        world.claim(job_id, "ingest")
        assert not room.retention().remove(seen)
        assert room.holds(left)


class _Meanwhile(ArtifactFolders):
    """Somebody else does something while the sweep's transaction is open, its folder about to go."""

    def __init__(self, room: Storeroom, work: Callable[[], object]) -> None:
        super().__init__(room.root)
        self._work = work
        self._thread = ThreadPoolExecutor(1)
        self.waited = False
        self.outcome: object = None

    def trash(self, folder: StoredFolder) -> None:
        self._doing = self._thread.submit(self._work)
        try:
            self._doing.result(timeout=MEANWHILE_SECONDS)
        except NotYet:
            self.waited = True
        super().trash(folder)

    def end(self) -> None:
        self.outcome = self._doing.result()
        self._thread.shutdown()


def test_who_takes_over_while_the_sweep_is_at_it_waits_and_finds_nothing(world: World) -> None:
    with storeroom(world) as room:
        made = room.artifact("made")
        room.days_pass(WHOLE_LIFE)
        (seen,) = room.expired()

        def look() -> bool:
            with world.database.write() as session:
                lock_key(session, made.key)
                return session.get(Artifact, made.key) is not None

        store = _Meanwhile(room, look)
        assert room.retention(store=store).remove(seen)
        store.end()
        assert (store.waited, store.outcome) == (True, False)
        assert not room.holds(made)


def test_a_job_that_found_an_artifact_which_the_sweep_takes_computes_it_again(world: World) -> None:
    with storeroom(world) as room:
        first = room.job(ended=False)
        made = room.complete(world.claim(first, "ingest"))
        world.control.cancel(first)
        room.days_pass(WHOLE_LIFE)
        (seen,) = room.expired()
        # It looks for what it may take over before its transaction, when row and folder are still there.
        store = _Meanwhile(room, lambda: world.create(Strategy.VAN_TUNING))
        assert room.retention(store=store).remove(seen)
        store.end()
        assert store.waited
        stage = world.stage(str(store.outcome), "ingest")
        assert (stage.status, stage.key, stage.reused) == (StageStatus.READY, made.key, False)


def test_a_pin_waits_for_the_sweep_of_what_it_would_keep(world: World) -> None:
    with storeroom(world) as room:
        made = room.artifact("made")
        job_id = room.job(made)
        room.days_pass(WHOLE_LIFE)
        (seen,) = room.expired()
        store = _Meanwhile(room, lambda: world.control.pin(job_id))
        assert room.retention(store=store).remove(seen)
        store.end()
        assert store.waited


def test_a_key_that_was_swept_is_computed_published_and_taken_over_again(world: World) -> None:
    with storeroom(world) as room:
        first = room.job(ended=False)
        made = room.complete(world.claim(first, "ingest"))
        world.control.cancel(first)
        room.days_pass(WHOLE_LIFE)
        room.sweep()
        assert not room.knows(made)
        second = room.job(ended=False)
        assert world.stage(second, "ingest").status is StageStatus.READY
        assert room.complete(world.claim(second, "ingest")) == made
        assert room.holds(made)
        third = room.job(ended=False)
        assert world.stage(third, "ingest").reused


class _CommitFails(ArtifactFolders):
    """The database goes away after the folder went."""

    def trash(self, folder: StoredFolder) -> None:
        super().trash(folder)
        raise Unavailable("The database does not answer just now.")


def test_a_row_whose_folder_went_without_it_counts_for_nothing_and_goes_with_the_next_sweep(world: World) -> None:
    with storeroom(world) as room:
        first = room.job(ended=False)
        made = room.complete(world.claim(first, "ingest"))
        world.control.cancel(first)
        room.days_pass(WHOLE_LIFE)
        with pytest.raises(Unavailable):
            room.retention(store=_CommitFails(room.root)).sweep()
        assert (room.knows(made), room.holds(made)) == (True, False)
        second = room.job(ended=False)
        assert not world.stage(second, "ingest").reused
        world.control.cancel(second)
        room.days_pass(WHOLE_LIFE)
        room.sweep()
        assert not room.knows(made)
        assert room.trash() == []


def test_trash_that_a_killed_sweep_left_is_removed(world: World) -> None:
    with storeroom(world) as room:
        room.left_trash()
        room.sweep()
        assert room.trash() == []


class _Stuck(ArtifactFolders):
    """One folder does not let itself be moved."""

    def __init__(self, room: Storeroom, stuck: ArtifactRef) -> None:
        super().__init__(room.root)
        self._stuck = stuck

    def trash(self, folder: StoredFolder) -> None:
        if folder.key == self._stuck.key:
            raise PermissionError("not yours")
        super().trash(folder)


def test_a_folder_that_will_not_go_keeps_its_row_and_holds_up_no_other(world: World) -> None:
    with storeroom(world) as room:
        stuck, other = sorted([room.artifact("one"), room.artifact("two")], key=lambda made: made.key)
        room.days_pass(WHOLE_LIFE)
        retention = room.retention(store=_Stuck(room, stuck))
        while retention.sweep():
            pass
        assert (room.knows(stuck), room.holds(stuck)) == (True, True)
        assert (room.knows(other), room.holds(other)) == (False, False)


def test_bytes_that_no_longer_count_stay_and_go_with_their_row(world: World) -> None:
    with storeroom(world) as room:
        counts = room.artifact("counts")
        before = room.publish("came out before", key=counts.key)
        with world.database.write() as session:
            row = session.get(Artifact, counts.key)
            assert row is not None
            row.other_digests = [before.digest]
        room.job(counts)
        room.aged(room.path(before), days=2)
        room.sweep()
        assert room.holds(before)
        room.aged(room.path(before), days=0)
        room.days_pass(WHOLE_LIFE)
        room.sweep()
        assert (room.holds(before), room.holds(counts), room.knows(counts)) == (False, False, False)


def test_scratch_goes_once_it_is_old_and_no_worker_has_it(world: World) -> None:
    with storeroom(world) as room:
        job_id = room.job(ended=False)
        claimed = world.claim(job_id, "ingest")
        at_work = room.aged(room.scratch(claimed.stage_id, claimed.fence), days=2)
        lost = room.aged(room.scratch(claimed.stage_id, claimed.fence - 1), days=2)
        young = room.aged(room.scratch(claimed.stage_id, claimed.fence - 1), days=0.9)
        upload = room.aged(room.store.scratch("dataset"), days=2)
        growing = room.aged(room.store.scratch("dataset"), days=2)
        (growing / "rows.jsonl").write_text("more")
        room.sweep()
        assert [folder.exists() for folder in (at_work, lost, young, upload, growing)] == [
            True,
            False,
            True,
            False,
            True,
        ]


def test_a_checkpoint_stays_while_a_stage_may_resume_from_it(world: World) -> None:
    with storeroom(world) as room:
        job_id = room.job(ended=False)
        key = world.stage(job_id, "ingest").key or ""
        wanted, old, young = (room.store.checkpoint(name) for name in (key, sha("old"), sha("young")))
        for folder, days in ((wanted, 100.0), (old, 7.0), (young, 6.9)):
            (folder / "step").write_text("5")
            room.aged(folder, days)
        room.sweep()
        assert [folder.exists() for folder in (wanted, old, young)] == [True, False, True]
        world.control.cancel(job_id)
        room.sweep()
        assert not wanted.exists()


def test_a_checkpoint_that_is_still_written_to_is_young(world: World) -> None:
    with storeroom(world) as room:
        folder = room.aged(room.store.checkpoint(sha("a stage")), days=100)
        step = folder / "checkpoint-10"
        step.mkdir()
        room.aged(folder, days=100)
        (step / "weights").write_text("0")
        room.sweep()
        assert folder.exists()


def test_published_bytes_that_no_row_knows_go_once_they_are_old(world: World) -> None:
    with storeroom(world) as room:
        job_id = room.job(ended=False)
        running = room.publish("published, not reported yet", key=world.claim(job_id, "ingest").key)
        old, young = room.publish("old"), room.publish("young")
        for found, days in ((running, 100.0), (old, 1.0), (young, 0.9)):
            room.aged(room.path(found), days)
        room.sweep()
        assert [room.holds(found) for found in (running, old, young)] == [True, False, True]


def test_published_bytes_are_young_again_when_they_are_published_again(world: World) -> None:
    with storeroom(world) as room:
        found = room.publish("the same")
        room.aged(room.path(found), days=2)
        assert room.publish("the same") == found
        room.sweep()
        assert room.holds(found)


def test_folders_that_are_not_the_stores_are_left_alone(world: World) -> None:
    with storeroom(world) as room:
        strangers = [room.root / part / "lost+found" for part in ("artifacts", "checkpoints", "tmp")]
        for folder in strangers:
            folder.mkdir()
            room.aged(folder, days=1000)
        room.sweep()
        assert all(folder.exists() for folder in strangers)


def test_a_dry_run_lists_what_would_go_and_removes_nothing(world: World) -> None:
    with storeroom(world) as room:
        made = room.artifact("made")
        room.job(made)
        used = world.clock.now
        room.days_pass(WHOLE_LIFE)
        room.aged(room.store.checkpoint(sha("old")), days=8)
        found, more = room.retention().dry_run()
        assert not more
        artifact, checkpoint = found
        assert (artifact.key, artifact.kind, artifact.retention_class) == (
            made.key,
            StageKind.SCORE,
            RetentionClass.INTERMEDIATE,
        )
        assert (artifact.last_used_at, artifact.expires_at) == (used, world.clock.now)
        assert artifact.bytes == sum(path.stat().st_size for path in room.path(made).iterdir())
        assert (checkpoint.key, checkpoint.kind) == (sha("old"), None)
        assert (world.clock.now - checkpoint.last_used_at).total_seconds() == pytest.approx(8 * 86400, abs=60)
        assert room.holds(made)
        assert room.trash() == []


def test_what_goes_at_once_is_bounded_and_the_rest_is_announced(world: World) -> None:
    with storeroom(world) as room:
        for name in ("one", "two", "three"):
            room.artifact(name)
        room.days_pass(WHOLE_LIFE)
        retention = room.retention()
        assert [len(found) for found, _ in (retention.dry_run(limit=2), retention.dry_run(limit=3))] == [2, 3]
        sweepings = [retention.collect(limit=2) for _ in range(3)]
        assert [(len(found), more) for found, more in sweepings] == [(2, True), (1, False), (0, False)]


class _AwayOnce(ArtifactFolders):
    """The file system does not answer the first time."""

    away = True

    def now(self) -> float:
        if self.away:
            self.away = False
            raise OSError("stale file handle")
        return super().now()


def test_a_round_that_broke_off_begins_anew(world: World) -> None:
    with storeroom(world) as room:
        old = room.aged(room.store.checkpoint(sha("old")), days=8)
        retention = room.retention(store=_AwayOnce(room.root))
        with pytest.raises(OSError, match="stale"):
            retention.sweep()
        while retention.sweep():
            pass
        assert not old.exists()


def test_views_tell_when_things_expire_and_nothing_of_what_is_kept(world: World) -> None:
    with storeroom(world) as room:
        report, score, busy = room.artifact("report", kind=StageKind.REPORT), room.artifact("score"), room.artifact("x")
        job_id = room.job(score, busy)
        room.set_stage(job_id, "report", artifact_key=report.key, artifact_digest=report.digest)
        room.job(busy, ended=False)
        with world.database.read() as session:
            shown = expiries(session, world.stages(job_id).values(), LIFETIMES)
        days = {key: None if moment is None else (moment - world.clock.now).days for key, moment in shown.items()}
        assert days == {report.key: 365, score.key: 30, busy.key: None}
        with world.database.read() as session:
            assert expiries(session, [], LIFETIMES) == {}


def test_log_lines_go_so_long_after_their_jobs_end(world: World) -> None:
    with storeroom(world) as room:
        old, young, runs = room.job(), room.job(ended=False), room.job(ended=False)
        for job_id in (old, young, runs):
            room.says(job_id, 3)
        room.days_pass(1)
        room.set_job(young, status=JobStatus.FAILED, finished_at=world.clock.now)
        room.days_pass(89)
        room.sweep()
        assert [room.lines(job_id) for job_id in (old, young, runs)] == [[], [1, 2, 3], [1, 2, 3]]
        assert world.job(old).log_seq == 3


def test_log_lines_without_a_lifetime_and_those_of_pinned_jobs_stay(world: World) -> None:
    with storeroom(world) as room:
        pinned, other = room.job(), room.job()
        world.control.pin(pinned)
        for job_id in (pinned, other):
            room.says(job_id, 2)
        room.days_pass(1000)
        room.sweep(RetentionSettings(log_days=None))
        assert room.lines(other) == [1, 2]
        room.sweep()
        assert (room.lines(pinned), room.lines(other)) == ([1, 2], [])


def test_a_pin_keeps_the_log_lines_that_are_left(world: World) -> None:
    with storeroom(world) as room:
        job_id = room.job()
        room.says(job_id, 7)
        room.days_pass(90)
        logs = OldLogs(world.database, LIFETIMES.log_lifetime, page=10, most_lines=3)
        round_ = logs.forget()
        assert [next(round_), next(round_)] == [0, 3]
        world.control.pin(job_id)
        assert list(round_) == []
        assert room.lines(job_id) == [4, 5, 6, 7]


def test_log_lines_go_in_parts_and_jobs_are_looked_at_in_pages(world: World) -> None:
    with storeroom(world) as room:
        for lines in (7, 1, 2):
            room.says(room.job(), lines)
        room.days_pass(90)
        logs = OldLogs(world.database, LIFETIMES.log_lifetime, page=2, most_lines=3)
        assert list(logs.forget()) == [0, 3, 3, 1, 1, 0, 2]
        assert list(logs.forget()) == []


class _Slow(ArtifactFolders):
    """Looks who holds a connection while folders are walked."""

    def __init__(self, room: Storeroom) -> None:
        super().__init__(room.root)
        self._pool = room.world.database.engine.pool
        self.held: list[int] = []

    def changed_at(self, folder: StoredFolder) -> float | None:
        self._look()
        return super().changed_at(folder)

    def bytes_of(self, folder: StoredFolder) -> int:
        self._look()
        return super().bytes_of(folder)

    def _look(self) -> None:
        assert isinstance(self._pool, QueuePool)
        self.held.append(self._pool.checkedout())


def test_no_transaction_waits_while_folders_are_walked(world: World) -> None:
    with storeroom(world) as room:
        made = room.artifact("made")
        room.job(made)
        room.days_pass(WHOLE_LIFE)
        orphan = room.publish("orphan")
        room.aged(room.path(orphan), days=2)
        store = _Slow(room)
        retention = room.retention(store=store)
        while retention.sweep():
            pass
        assert (room.holds(made), room.holds(orphan)) == (False, False)
        assert len(store.held) >= 4
        assert set(store.held) == {0}


class _WrittenTo(ArtifactFolders):
    """Somebody writes into what has just been measured."""

    def bytes_of(self, folder: StoredFolder) -> int:
        found = super().bytes_of(folder)
        (self._path(folder) / "more").write_text("more")
        return found


def test_a_folder_written_to_between_the_sweeps_look_and_its_removal_stays(world: World) -> None:
    with storeroom(world) as room:
        upload = room.aged(room.store.scratch("dataset"), days=2)
        retention = room.retention(store=_WrittenTo(room.root))
        while retention.sweep():
            pass
        assert upload.exists()
