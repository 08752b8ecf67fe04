"""The context of a stage function."""

from pathlib import Path

import pytest

from craft.contracts.stages.claims import StageProgress
from craft.errors import Internal
from craft.infra.stage.context import LocalContext, StopRequest


def test_an_input_that_the_plan_did_not_give_is_a_defect(tmp_path: Path) -> None:
    context = LocalContext(output=tmp_path, checkpoint=tmp_path, inputs={"before": tmp_path})
    assert context.input("before") == tmp_path
    with pytest.raises(Internal, match="after"):
        context.input("after")


def test_progress_reaches_who_listens(tmp_path: Path) -> None:
    seen: list[StageProgress] = []
    context = LocalContext(output=tmp_path, checkpoint=tmp_path, on_progress=seen.append)
    context.progress(1, 2, {"loss": 0.5})
    assert seen == [StageProgress(done=1, total=2, metrics={"loss": 0.5})]


def test_progress_may_be_dropped(tmp_path: Path) -> None:
    LocalContext(output=tmp_path, checkpoint=tmp_path).progress(1, 2)


def test_a_request_to_stop_interrupts_at_once() -> None:
    with pytest.raises(SystemExit) as ended:
        StopRequest().request(143)
    assert ended.value.code == 143


def test_a_deferred_stop_waits_for_the_end_of_the_block() -> None:
    stop = StopRequest()
    seen: list[bool] = []

    def work() -> None:
        with stop.defer_stop():
            seen.append(stop.requested)
            stop.request(143)
            seen.append(stop.requested)

    with pytest.raises(SystemExit):
        work()
    assert seen == [False, True]


def test_after_the_block_a_request_interrupts_at_once_again() -> None:
    stop = StopRequest()
    with stop.defer_stop():
        pass
    with pytest.raises(SystemExit):
        stop.request(143)


def test_a_stage_that_saves_because_it_was_asked_to_stop_is_not_interrupted_again() -> None:
    stop, saved = StopRequest(), []

    def work() -> None:
        try:
            stop.request(143)
        finally:
            stop.request(143)
            saved.append("half")

    with pytest.raises(SystemExit):
        work()
    assert saved == ["half"]


def test_a_stage_that_fails_after_it_was_asked_to_stop_has_stopped() -> None:
    stop = StopRequest()

    def work() -> None:
        with stop.defer_stop():
            stop.request(143)
            raise OSError("No space left to save.")

    with pytest.raises(SystemExit):
        work()
