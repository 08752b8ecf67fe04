"""The context that a stage function sees."""

from pathlib import Path

import pytest

from craft.contracts.stages import StageProgress
from craft.errors import Internal
from craft.infra.stage import LocalContext


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
