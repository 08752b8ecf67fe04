"""A worker whose coordinator was away for too long: what it still says once there is an answer again."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.rig.disks import SmallDisk
from tests.infra.worker.fakes import claimed
from tests.infra.worker.test_runner import PATIENCE_SECONDS, Scene, failure, writes

from craft.contracts.stages.claims import Complete, Fail, Release, Renew, StageProgress
from craft.errors import LeaseLost, Unauthenticated, Unavailable
from craft.infra.worker.child_process import ChildOutcome, Died, StageListener, StageWork
from craft.infra.worker.reports import AttemptEnd

AWAY = [Unavailable("away")] * 3


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.runner.stop()


def said(scene: Scene, kind: type[Complete | Fail | Release | Renew]) -> object:
    """The next report of this kind, from whatever thread."""
    while not isinstance(report := scene.coordinator.said.get(timeout=PATIENCE_SECONDS), kind):
        pass
    return report


def give_up(scene: Scene, *, lease_seconds: float, silent_seconds: float) -> AttemptEnd:
    """Run a stage that cannot be renewed any more for so long."""
    scene.coordinator.claimed = claimed(beat_seconds=0.01).model_copy(update={"lease_seconds": lease_seconds})
    scene.coordinator.errors["renew"] = [Unavailable("away")] * 1_000_000
    done = scene.begin()
    scene.working()
    scene.clock.now += silent_seconds
    return done.result(PATIENCE_SECONDS)


def test_a_stage_that_was_given_up_is_given_back_when_the_coordinator_answers_again(scene: Scene) -> None:
    scene.coordinator.errors["release"] = list(AWAY)
    assert give_up(scene, lease_seconds=90, silent_seconds=61) is AttemptEnd.LOST
    release = said(scene, Release)
    assert isinstance(release, Release)
    assert release.fence == 7
    assert scene.child.kills == [0]
    assert scene.coordinator.calls.count("release") == len(AWAY) + 1


def test_a_worker_gives_up_well_before_a_short_lease_ends(scene: Scene) -> None:
    assert give_up(scene, lease_seconds=30, silent_seconds=21) is AttemptEnd.LOST
    assert scene.child.kills == [0]


def test_a_completion_is_sent_once_the_coordinator_answers_again(scene: Scene) -> None:
    scene.coordinator.errors["complete"] = list(AWAY)

    def slow(work: StageWork, listener: StageListener) -> ChildOutcome:
        scene.clock.now += 59.0
        return writes(work, listener)

    real_complete = scene.coordinator.complete

    def complete(stage_id: str, complete: Complete) -> None:
        scene.clock.now += 2.0
        real_complete(stage_id, complete)

    scene.child.answer = slow
    scene.coordinator.errors["renew"] = [Unavailable("away")]
    scene.coordinator.complete = complete  # type: ignore[method-assign]
    assert scene.run() is AttemptEnd.LOST
    late = said(scene, Complete)
    assert isinstance(late, Complete)
    assert (scene.store.open(late.manifest.ref) / "text").read_text() == "done"


def test_a_worker_makes_no_claim_before_its_late_completion_is_answered(scene: Scene) -> None:
    scene.coordinator.errors["complete"] = list(AWAY)
    real_complete = scene.coordinator.complete

    def complete(stage_id: str, complete: Complete) -> None:
        scene.clock.now += 61.0
        real_complete(stage_id, complete)

    scene.coordinator.complete = complete  # type: ignore[method-assign]
    scene.child.answer = writes
    assert scene.run() is AttemptEnd.LOST
    scene.coordinator.claimed = None
    assert scene.run() is AttemptEnd.NOTHING_TO_DO
    assert scene.coordinator.calls[-2:] == ["complete", "claim"]
    assert scene.coordinator.calls.count("complete") == len(AWAY) + 1


def test_a_late_report_that_is_refused_is_not_repeated_and_nothing_waits_for_it(scene: Scene) -> None:
    refused = threading.Event()
    answers_of_it = iter([Unavailable("away"), LeaseLost("old")])

    def release(stage_id: str, release: Release) -> None:
        # A third call would end the thread with an error that fails the test.
        answer = next(answers_of_it)
        if isinstance(answer, LeaseLost):
            refused.set()
        raise answer

    scene.coordinator.release = release  # type: ignore[method-assign]
    give_up(scene, lease_seconds=90, silent_seconds=61)
    scene.coordinator.errors["renew"] = []
    scene.child.answer = writes
    assert scene.run() is AttemptEnd.COMPLETED
    assert refused.wait(PATIENCE_SECONDS)
    for thread in threading.enumerate():
        if thread.name == "late-report":
            thread.join(PATIENCE_SECONDS)


def test_a_claim_whose_answer_was_lost_is_made_again(scene: Scene) -> None:
    scene.coordinator.errors["claim"] = [Unavailable("no answer")]
    scene.child.answer = writes
    assert scene.run() is AttemptEnd.COMPLETED
    assert scene.coordinator.calls[:2] == ["claim", "claim"]


def test_a_claim_that_is_refused_is_not_made_again(scene: Scene) -> None:
    scene.coordinator.errors["claim"] = [Unauthenticated("no token")]
    assert scene.run() is AttemptEnd.NOTHING_TO_DO
    assert scene.coordinator.calls == ["claim"]


def test_what_a_stage_achieved_is_told_before_its_failure(scene: Scene) -> None:
    def answer(work: StageWork, listener: StageListener) -> ChildOutcome:
        listener.on_progress(StageProgress(done=8, total=9))
        return Died(exit_signal=signal.SIGSEGV, exit_code=None, peak_memory_bytes=0)

    scene.child.answer = answer
    assert scene.run() is AttemptEnd.FAILED
    told = scene.coordinator.said.get()
    assert isinstance(told, Renew)
    assert told.progress == StageProgress(done=8, total=9)
    assert scene.coordinator.calls == ["claim", "renew", "fail"]


@pytest.mark.servers
@pytest.mark.parametrize(
    ("died", "code"),
    [
        (Died(exit_signal=signal.SIGBUS, exit_code=None, peak_memory_bytes=0), "disk_full"),
        (Died(exit_signal=None, exit_code=1, peak_memory_bytes=0), "disk_full"),
        (Died(exit_signal=signal.SIGKILL, exit_code=None, peak_memory_bytes=0), "worker_lost"),
    ],
    ids=["SIGBUS", "exit 1", "SIGKILL"],
)
def test_a_process_that_dies_on_a_full_disk_is_no_lost_worker(tmp_path: Path, died: Died, code: str) -> None:
    with SmallDisk(tmp_path / "state", megabytes=16) as disk:
        if not disk.mounted:
            pytest.skip(f"no small disk: {disk.reason}")
        scene = Scene(tmp_path / "state")

        def fill_and_die(work: StageWork, listener: StageListener) -> ChildOutcome:
            disk.fill()
            return died

        scene.child.answer = fill_and_die
        assert scene.run() is AttemptEnd.FAILED
        assert failure(scene).code == code
