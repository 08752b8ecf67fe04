"""A worker's decisions about one stage, with a fake coordinator and a fake child."""

import queue
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.infra.storage.damage import BREAKS, Break, flip_a_byte
from tests.infra.worker.fakes import KEY, FakeClock, FakeCoordinator, claimed

from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import ArtifactRef, Cost, Manifest, StageResult
from craft.contracts.stages.claims import Claim, Complete, Fail, Release, Renew, Renewed, StageProgress
from craft.contracts.stages.kinds import Service
from craft.errors import CraftError, DiskFull, Fault, Internal, LeaseLost, NotFound, TooFewKnown, Unavailable
from craft.infra.settings.worker import WorkerSettings
from craft.infra.stage.channel import Failed, Finished
from craft.infra.storage.artifacts import FolderStore
from craft.infra.worker.child_process import ChildOutcome, Died, StageListener, StageWork
from craft.infra.worker.device import DeviceLock, no_device_lock
from craft.infra.worker.reports import AttemptEnd
from craft.infra.worker.runner import StageRunner

PATIENCE_SECONDS = 30


def answers(outcome: ChildOutcome | None) -> Callable[[StageWork, StageListener], ChildOutcome | None]:
    """A child that gives this outcome at once."""

    def answer(work: StageWork, listener: StageListener) -> ChildOutcome | None:
        return outcome

    return answer


class FakeChild:
    """Records its stages; dies when killed, as a real child."""

    def __init__(self) -> None:
        self.works: queue.SimpleQueue[tuple[StageWork, StageListener]] = queue.SimpleQueue()
        self.listener: StageListener | None = None
        self.kills: list[float | None] = []
        self.killed = threading.Event()
        self.said_when_killed: str | None = None
        self.answer: Callable[[StageWork, StageListener], ChildOutcome | None] = answers(None)

    def start(self, work: StageWork, listener: StageListener) -> None:
        self.listener = listener
        if outcome := self.answer(work, listener):
            listener.on_outcome(outcome)
        self.works.put((work, listener))

    def kill(self, *, grace_seconds: float | None = None) -> None:
        self.kills.append(grace_seconds)
        self.killed.set()
        if self.listener:
            # As with a real child, other threads report its end a little later.
            threading.Thread(target=self._die, args=(self.listener,)).start()

    def _die(self, listener: StageListener) -> None:
        if self.said_when_killed:
            listener.on_log(self.said_when_killed)
        listener.on_outcome(Died(exit_signal=15, exit_code=None, peak_memory_bytes=0))


class Scene:
    """A runner with its fakes and its store."""

    def __init__(
        self,
        folder: Path,
        *,
        device_lock: DeviceLock = no_device_lock,
        device: str | None = None,
        release_memory: Callable[[], None] = lambda: None,
        store: FolderStore | None = None,
    ) -> None:
        self.folder = folder
        self.coordinator = FakeCoordinator()
        self.child = FakeChild()
        self.store = store or FolderStore(folder)
        self.clock = FakeClock()
        self.runner = StageRunner(
            service=Service.SCORING,
            owner="host-1-wrk_1",
            coordinator=self.coordinator,
            store=self.store,
            child=self.child,
            settings=WorkerSettings(give_up_seconds=60, grace_seconds=4),
            redact=lambda line: line.replace("hunter2", "[redacted]"),
            device_lock=device_lock,
            device=device,
            release_memory=release_memory,
            clock=self.clock,
        )
        self._threads = ThreadPoolExecutor(1)

    def run(self) -> AttemptEnd:
        return self.runner.run("stg_1")

    def begin(self) -> "Future[AttemptEnd]":
        return self._threads.submit(self.run)

    def working(self) -> tuple[StageWork, StageListener]:
        return self.child.works.get(timeout=PATIENCE_SECONDS)

    @property
    def leftovers(self) -> list[Path]:
        return list((self.folder / "tmp").iterdir())

    @property
    def artifacts(self) -> list[Path]:
        return list((self.folder / "artifacts").iterdir())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def writes(work: StageWork, listener: StageListener) -> ChildOutcome:
    (work.output / "text").write_text("done")
    listener.on_log("a line with hunter2")
    return Finished(result=StageResult(cost=Cost(seconds=1.5)))


def test_a_finished_stage_is_published_and_completed(scene: Scene) -> None:
    scene.child.answer = writes
    assert scene.run() is AttemptEnd.COMPLETED
    complete = scene.coordinator.last()
    assert isinstance(complete, Complete)
    assert (complete.fence, complete.manifest.key) == (7, KEY)
    assert complete.manifest.result.cost.seconds == 1.5
    assert (scene.store.open(complete.manifest.ref) / "text").read_text() == "done"
    # There is nothing left to resume.
    assert list((scene.folder / "checkpoints").iterdir()) == []
    assert scene.leftovers == []


def test_who_computes_the_key_again_keeps_its_checkpoint_while_the_finished_stages_is_removed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.child.answer = writes
    removed = shutil.rmtree
    twins: list[Path] = []

    def slow(path: Path, *, ignore_errors: bool = False) -> None:
        if not twins:
            # It was handed out as soon as the report was heard.
            twins.append(scene.store.checkpoint(KEY) / "step")
            twins[0].write_text("1")
        removed(path, ignore_errors=ignore_errors)

    (scene.store.checkpoint(KEY) / "old").write_text("9")
    monkeypatch.setattr("craft.infra.worker.attempt.shutil.rmtree", slow)
    assert scene.run() is AttemptEnd.COMPLETED
    assert [path.name for path in scene.store.checkpoint(KEY).iterdir()] == ["step"]
    assert scene.leftovers == []


def test_the_claim_names_this_process_and_its_service(scene: Scene) -> None:
    scene.coordinator.claimed = None
    scene.run()
    assert scene.coordinator.owner == Claim(owner="host-1-wrk_1", service=Service.SCORING)


def test_the_claim_names_the_locked_device(tmp_path: Path) -> None:
    scene = Scene(tmp_path, device="gpu0")
    scene.coordinator.claimed = None
    assert scene.run() is AttemptEnd.NOTHING_TO_DO
    assert scene.coordinator.owner == Claim(owner="host-1-wrk_1", service=Service.SCORING, device="gpu0")


def test_memory_is_released_under_the_device_lock_and_after_the_claim(tmp_path: Path) -> None:
    order: list[str] = []

    @contextmanager
    def device_lock(stopping: threading.Event) -> Iterator[bool]:
        order.append("locked")
        yield True
        order.append("unlocked")

    def release_memory() -> None:
        order.append(f"released {locked.coordinator.calls}")

    locked = Scene(tmp_path, device_lock=device_lock, release_memory=release_memory)
    locked.child.answer = answers(Finished(result=StageResult()))
    assert locked.run() is AttemptEnd.COMPLETED
    assert order == ["locked", "released ['claim']", "unlocked"]


def test_without_the_device_lock_no_memory_is_released(tmp_path: Path) -> None:
    made: list[None] = []

    @contextmanager
    def never(stopping: threading.Event) -> Iterator[bool]:
        yield False

    scene = Scene(tmp_path, device_lock=never, release_memory=lambda: made.append(None))
    assert scene.run() is AttemptEnd.NOTHING_TO_DO
    assert (made, scene.coordinator.calls) == ([], [])


def test_no_memory_is_released_for_a_stage_that_cannot_be_claimed(tmp_path: Path) -> None:
    made: list[None] = []
    scene = Scene(tmp_path, release_memory=lambda: made.append(None))
    scene.coordinator.claimed = None
    assert scene.run() is AttemptEnd.NOTHING_TO_DO
    assert made == []


def test_memory_that_cannot_be_released_fails_the_attempt_with_the_reason(tmp_path: Path) -> None:
    def no_memory() -> None:
        raise Unavailable("The model server did not give up the device.")

    scene = Scene(tmp_path, release_memory=no_memory)
    assert scene.run() is AttemptEnd.FAILED
    assert failure(scene).code == "unavailable"
    assert scene.child.works.empty()


def test_a_cancel_does_not_wait_until_memory_is_released(tmp_path: Path) -> None:
    asked, never = threading.Event(), threading.Event()

    def release_memory() -> None:
        asked.set()
        never.wait(PATIENCE_SECONDS)

    scene = Scene(tmp_path, release_memory=release_memory)
    scene.coordinator.claimed = claimed(beat_seconds=0.05)
    done = scene.begin()
    assert asked.wait(PATIENCE_SECONDS)
    scene.coordinator.renewed = Renewed(stop=True)
    assert done.result(5) is AttemptEnd.RELEASED
    never.set()
    # A child that idles with another stage's model is left alone.
    assert (scene.child.kills, scene.child.works.empty(), scene.leftovers) == ([], True, [])


def test_the_deadline_includes_the_wait_for_released_memory(tmp_path: Path) -> None:
    never = threading.Event()

    def release_memory() -> None:
        never.wait(PATIENCE_SECONDS)

    scene = Scene(tmp_path, release_memory=release_memory)
    scene.coordinator.claimed = claimed(timeout_seconds=0.1)
    assert scene.run() is AttemptEnd.FAILED
    never.set()
    assert failure(scene).code == "timeout"


def test_log_lines_travel_without_secrets(scene: Scene) -> None:
    scene.child.answer = writes
    scene.run()
    said = [scene.coordinator.said.get() for _ in range(scene.coordinator.said.qsize())]
    assert [line for call in said for line in call.log_lines] == ["a line with [redacted]"]


def test_a_dispatch_message_for_a_stage_that_cannot_be_claimed_costs_one_call(scene: Scene) -> None:
    scene.coordinator.claimed = None
    assert scene.run() is AttemptEnd.NOTHING_TO_DO
    assert scene.coordinator.calls == ["claim"]
    assert scene.leftovers == []


def test_a_coordinator_that_does_not_answer_the_claim_costs_only_the_dispatch_message(scene: Scene) -> None:
    scene.coordinator.errors["claim"] = [Unavailable("away")] * 1000
    assert scene.run() is AttemptEnd.NOTHING_TO_DO
    assert scene.coordinator.calls == ["claim"] * 3


def test_inputs_are_resolved_to_folders(scene: Scene) -> None:
    ref = published(scene.store, "b" * 64).ref
    scene.coordinator.claimed = claimed(inputs={"before": ref})
    scene.child.answer = writes
    scene.run()
    work, _ = scene.working()
    assert (work.inputs["before"] / "text").read_text() == "input"
    complete = scene.coordinator.last()
    assert isinstance(complete, Complete)
    assert complete.manifest.inputs == {"before": ref}


def published(store: FolderStore, key: str) -> Manifest:
    scratch = store.scratch("input")
    (scratch / "text").write_text("input")
    return store.publish(scratch, key=key, kind="dataset", parameters={}, inputs={}, result=StageResult())


def test_a_missing_input_fails_the_stage_as_our_fault(scene: Scene) -> None:
    scene.coordinator.claimed = claimed(inputs={"before": ArtifactRef(key="b" * 64, digest="c" * 64)})
    assert scene.run() is AttemptEnd.FAILED
    error = failure(scene)
    assert (error.code, error.fault) == ("artifact_damaged", Fault.SYSTEM)
    assert scene.leftovers == []
    assert scene.child.works.empty()


@pytest.mark.parametrize("damage", BREAKS.values(), ids=BREAKS.keys())
def test_no_stage_begins_on_a_damaged_input(scene: Scene, damage: Break) -> None:
    ref = published(scene.store, "b" * 64).ref
    damage(scene.store.open(ref), "text")
    scene.coordinator.claimed = claimed(inputs={"before": ref})
    assert scene.run() is AttemptEnd.FAILED
    error = failure(scene)
    assert error.code == "artifact_damaged"
    assert "before" in error.message
    assert scene.child.works.empty()
    assert not scene.store.holds(ref)


@pytest.mark.parametrize(
    "outcome",
    [
        Finished(result=StageResult()),
        Failed(error=StageError.of(Internal("The stage met what it did not expect.")), reusable=True),
        Died(exit_signal=11, exit_code=None, peak_memory_bytes=0),
    ],
    ids=["finished", "failed", "died"],
)
def test_an_input_that_is_damaged_while_the_stage_reads_it_explains_the_outcome(
    scene: Scene, outcome: ChildOutcome
) -> None:
    ref = published(scene.store, "b" * 64).ref

    def damages_its_input(work: StageWork, listener: StageListener) -> ChildOutcome:
        flip_a_byte(work.inputs["before"], "text")
        return outcome

    scene.coordinator.claimed = claimed(inputs={"before": ref})
    scene.child.answer = damages_its_input
    assert scene.run() is AttemptEnd.FAILED
    assert failure(scene).code == "artifact_damaged"
    assert scene.artifacts == []


def failure(scene: Scene) -> StageError:
    fail = scene.coordinator.last()
    assert isinstance(fail, Fail)
    assert fail.fence == 7
    return fail.error


def test_an_error_of_the_stage_is_reported_with_its_last_lines(scene: Scene) -> None:
    def answer(work: StageWork, listener: StageListener) -> ChildOutcome:
        for line in range(60):
            listener.on_log(str(line))
        return Failed(error=StageError.of(TooFewKnown("Three.", hint="Ask easier questions.")), reusable=True)

    scene.child.answer = answer
    assert scene.run() is AttemptEnd.FAILED
    error = failure(scene)
    assert (error.code, error.hint) == ("too_few_known", "Ask easier questions.")
    assert error.last_log_lines == [str(line) for line in range(10, 60)]


def test_a_dead_child_is_worker_lost_with_its_signal(scene: Scene) -> None:
    scene.child.answer = answers(Died(exit_signal=9, exit_code=None, peak_memory_bytes=3 * 2**30))
    assert scene.run() is AttemptEnd.FAILED
    error = failure(scene)
    assert (error.code, error.exit_signal, error.retryable) == ("worker_lost", 9, True)
    assert error.peak_memory_bytes == 3 * 2**30
    assert "SIGKILL" in error.message
    assert "3.00 GiB" in error.message


def test_a_child_that_held_too_much_is_host_oom(scene: Scene) -> None:
    scene.child.answer = answers(
        Died(exit_signal=9, exit_code=None, peak_memory_bytes=5 * 2**30, memory_limit_bytes=4 * 2**30)
    )
    assert scene.run() is AttemptEnd.FAILED
    error = failure(scene)
    assert (error.code, error.exit_signal, error.retryable) == ("host_oom", 9, True)
    assert "4.00 GiB" in error.message
    assert "Lower batch sizes" in (error.hint or "")


def test_a_child_that_exits_is_worker_lost_with_its_code(scene: Scene) -> None:
    scene.child.answer = answers(Died(exit_signal=None, exit_code=3, peak_memory_bytes=0))
    scene.run()
    assert "exit code 3" in failure(scene).message


def test_a_stage_past_its_deadline_is_killed_and_failed(scene: Scene) -> None:
    def hang(work: StageWork, listener: StageListener) -> None:
        scene.clock.now += 3600.0

    scene.child.answer = hang
    scene.coordinator.claimed = claimed(timeout_seconds=3600.0)
    assert scene.run() is AttemptEnd.FAILED
    assert failure(scene).code == "timeout"
    assert scene.child.kills == [4.0]


def test_progress_and_lines_travel_with_the_next_renewal_and_the_latest_wins(scene: Scene) -> None:
    scene.coordinator.claimed = claimed(beat_seconds=0.05)
    done = scene.begin()
    _, listener = scene.working()
    for step in range(100):
        listener.on_progress(StageProgress(done=step, total=100))
    listener.on_log("hello")
    renewals: list[Renew] = []
    while not (renewals and renewals[-1].progress and any("hello" in r.log_lines for r in renewals)):
        said = scene.coordinator.said.get(timeout=PATIENCE_SECONDS)
        assert isinstance(said, Renew)
        renewals.append(said)
    assert renewals[-1].progress == StageProgress(done=99, total=100)
    assert sum("hello" in r.log_lines for r in renewals) == 1
    listener.on_outcome(Finished(result=StageResult()))
    assert done.result(PATIENCE_SECONDS) is AttemptEnd.COMPLETED


def test_an_order_to_stop_kills_the_child_and_releases_the_stage(scene: Scene) -> None:
    scene.coordinator.claimed = claimed(beat_seconds=0.01)
    scene.coordinator.renewed = Renewed(stop=True)
    assert scene.run() is AttemptEnd.RELEASED
    assert scene.child.kills == [2.5]
    release = scene.coordinator.last()
    assert isinstance(release, Release)
    assert release.fence == 7
    assert scene.artifacts == []


@pytest.mark.parametrize("error", [LeaseLost("old"), NotFound("gone")])
def test_a_lost_lease_kills_the_child_at_once_and_says_nothing(scene: Scene, error: CraftError) -> None:
    scene.coordinator.claimed = claimed(beat_seconds=0.01)
    scene.coordinator.errors["renew"] = [error]
    assert scene.run() is AttemptEnd.LOST
    assert scene.child.kills == [0]
    assert scene.coordinator.calls == ["claim", "renew"]
    assert scene.leftovers == []


def test_a_worker_that_cannot_renew_for_too_long_gives_up(scene: Scene) -> None:
    scene.coordinator.claimed = claimed(beat_seconds=0.01)
    scene.coordinator.errors["renew"] = [Unavailable("away")] * 1_000_000
    done = scene.begin()
    scene.working()
    scene.clock.now += 59.0
    assert not scene.child.killed.wait(0.1)
    scene.clock.now += 2.0
    assert done.result(PATIENCE_SECONDS) is AttemptEnd.LOST
    assert scene.child.kills == [0]
    assert scene.artifacts == []


def test_a_worker_that_slept_through_its_lease_does_not_even_ask(scene: Scene) -> None:
    scene.coordinator.claimed = claimed(beat_seconds=0.01)

    def sleep(work: StageWork, listener: StageListener) -> ChildOutcome:
        scene.clock.now += 61.0
        return writes(work, listener)

    scene.child.answer = sleep
    assert scene.run() is AttemptEnd.LOST
    assert "complete" not in scene.coordinator.calls
    assert scene.artifacts == []


def test_lines_of_a_failed_renewal_are_sent_again(scene: Scene) -> None:
    scene.coordinator.claimed = claimed(beat_seconds=0.01)
    scene.coordinator.errors["renew"] = [Unavailable("away"), Internal("odd")]
    done = scene.begin()
    _, listener = scene.working()
    listener.on_log("once")
    lines: list[str] = []
    while not lines:
        lines += scene.coordinator.said.get(timeout=PATIENCE_SECONDS).log_lines
    listener.on_outcome(Finished(result=StageResult()))
    assert done.result(PATIENCE_SECONDS) is AttemptEnd.COMPLETED
    assert lines == ["once"]


def prints(lines: int, outcome: ChildOutcome) -> Callable[[StageWork, StageListener], ChildOutcome]:
    """A child that prints so much at once, then ends so."""

    def answer(work: StageWork, listener: StageListener) -> ChildOutcome:
        for line in range(lines):
            listener.on_log(f"line {line}")
        return outcome

    return answer


@pytest.mark.parametrize(
    "outcome", [Died(exit_signal=9, exit_code=None, peak_memory_bytes=0), Finished(result=StageResult())]
)
def test_more_lines_than_one_report_takes_all_arrive_in_order(scene: Scene, outcome: ChildOutcome) -> None:
    scene.child.answer = prints(2500, outcome)
    scene.run()
    said = [scene.coordinator.said.get() for _ in range(scene.coordinator.said.qsize())]
    assert all(len(call.log_lines) <= 1000 for call in said)
    assert [line for call in said for line in call.log_lines] == [f"line {line}" for line in range(2500)]


def test_a_coordinator_that_is_away_is_not_asked_for_ever_to_take_lines(scene: Scene) -> None:
    scene.child.answer = prints(2500, Died(exit_signal=9, exit_code=None, peak_memory_bytes=0))
    scene.coordinator.errors["renew"] = [Unavailable("away")] * 1_000_000
    assert scene.run() is AttemptEnd.FAILED
    assert scene.coordinator.calls == ["claim", "renew", "fail"]
    assert failure(scene).last_log_lines[-1] == "line 2499"


def test_lines_that_a_stage_prints_while_it_is_ended_arrive_too(scene: Scene) -> None:
    done = scene.begin()
    scene.working()
    scene.child.said_when_killed = "saved"
    scene.runner.stop()
    assert done.result(PATIENCE_SECONDS) is AttemptEnd.RELEASED
    assert scene.coordinator.last().log_lines == ["saved"]


def test_a_stage_whose_lease_was_lost_before_publishing_is_discarded(scene: Scene) -> None:
    scene.child.answer = writes
    scene.coordinator.errors["renew"] = [LeaseLost("old")]
    assert scene.run() is AttemptEnd.LOST
    assert scene.artifacts == []
    assert scene.leftovers == []


def test_a_late_completion_is_discarded(scene: Scene) -> None:
    scene.child.answer = writes
    scene.coordinator.errors["complete"] = [LeaseLost("old")]
    assert scene.run() is AttemptEnd.LOST
    assert scene.coordinator.calls[-1] == "complete"


def test_a_completion_is_repeated_while_the_coordinator_is_away(scene: Scene) -> None:
    scene.child.answer = writes
    scene.coordinator.errors["complete"] = [Unavailable("away")]
    assert scene.run() is AttemptEnd.COMPLETED
    assert scene.coordinator.calls.count("complete") == 2


def test_a_completion_that_is_not_answered_keeps_no_worker_for_ever(scene: Scene) -> None:
    def slow(work: StageWork, listener: StageListener) -> ChildOutcome:
        scene.clock.now += 59.0
        return writes(work, listener)

    scene.child.answer = slow
    scene.coordinator.errors["renew"] = [Unavailable("away")]
    scene.coordinator.errors["complete"] = [Unavailable("away")] * 1000
    original = scene.coordinator.complete

    def complete(stage_id: str, complete: Complete) -> None:
        scene.clock.now += 2.0
        original(stage_id, complete)

    scene.coordinator.complete = complete  # type: ignore[method-assign]
    # The worker is free for another stage; only a thread goes on asking.
    assert scene.run() is AttemptEnd.LOST
    scene.runner.stop()


def test_a_full_disk_fails_the_stage_and_leaves_nothing(scene: Scene) -> None:
    class FullStore(FolderStore):
        """Has no space for another artifact."""

        def publish(self, *args: object, **more: object) -> Manifest:
            raise DiskFull("No space.")

    full = FullStore(scene.folder)
    scene.child.answer = writes
    runner = StageRunner(
        service=Service.SCORING,
        owner="o",
        coordinator=scene.coordinator,
        store=full,
        child=scene.child,
        settings=WorkerSettings(),
        clock=scene.clock,
    )
    assert runner.run("stg_1") is AttemptEnd.FAILED
    error = failure(scene)
    assert (error.code, error.retryable) == ("disk_full", True)
    assert scene.leftovers == []
    assert scene.artifacts == []


def test_a_child_that_cannot_be_started_fails_the_stage(scene: Scene) -> None:
    def answer(work: StageWork, listener: StageListener) -> ChildOutcome:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    scene.child.answer = answer
    assert scene.run() is AttemptEnd.FAILED
    assert failure(scene).code == "internal"


def test_shutdown_kills_the_child_and_gives_the_stage_back(scene: Scene) -> None:
    done = scene.begin()
    scene.working()
    scene.runner.stop()
    assert done.result(PATIENCE_SECONDS) is AttemptEnd.RELEASED
    assert scene.child.kills == [2.0]
    assert scene.leftovers == []


def test_a_worker_that_shuts_down_claims_nothing(scene: Scene) -> None:
    scene.runner.stop()
    assert scene.run() is AttemptEnd.NOTHING_TO_DO
    assert scene.coordinator.calls == []


def test_an_unanswered_release_ends_with_the_lease(scene: Scene) -> None:
    scene.coordinator.errors["release"] = [Unavailable("away")]
    done = scene.begin()
    scene.working()
    scene.runner.stop()
    assert done.result(PATIENCE_SECONDS) is AttemptEnd.LOST
    assert scene.coordinator.calls.count("release") == 1


class _SlowStore(FolderStore):
    """Opens an artifact when the test says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opening, self.go_on = threading.Event(), threading.Event()

    def open(self, ref: ArtifactRef) -> Path:
        self.opening.set()
        assert self.go_on.wait(PATIENCE_SECONDS)
        return super().open(ref)


def test_a_stage_that_is_stopped_while_its_inputs_are_verified_releases_no_memory_later(tmp_path: Path) -> None:
    released: list[str] = []
    slow = _SlowStore(tmp_path)
    scene = Scene(tmp_path, store=slow, release_memory=lambda: released.append("memory"))
    ref = published(scene.store, "b" * 64).ref
    scene.coordinator.claimed = claimed(inputs={"before": ref})
    running = scene.begin()
    assert slow.opening.wait(PATIENCE_SECONDS)
    scene.runner.stop()
    assert running.result(PATIENCE_SECONDS) is AttemptEnd.RELEASED
    preparing = [thread for thread in threading.enumerate() if thread.name == "prepare"]
    slow.go_on.set()
    for thread in preparing:
        thread.join(PATIENCE_SECONDS)
    assert released == []
