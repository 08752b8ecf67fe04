"""Training in a worker's real child process: stopped, and killed while it saves."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.child_listener import ChildListener

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.parameters import TrainerRef, TuneParameters
from craft.contracts.stages.rows import TRAINING_FILE, TrainingRow
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.worker import WorkerSettings
from craft.infra.stage.channel import Finished
from craft.infra.storage.artifacts import write_rows
from craft.infra.worker.child_process import Died, StageWork
from craft.infra.worker.child_supervisor import WarmChild

TIMEOUT_SECONDS = 120.0
WIRING = "craft_training.wiring:stage_functions"
FAULTY = "faulty_stages:stage_functions"
GRACE_SECONDS = WorkerSettings().stop_seconds
"""The time that a stopping worker gives its child."""
LONG = TrainingSettings(lora_r=32, learning_rate=1e-3, epochs=100, batch_size=4)
SHORT = LONG.model_copy(update={"epochs": 3})
Row = Callable[[str, str], TrainingRow]


class Training:
    """The attempts at one tuning stage, each in a process of its own."""

    def __init__(self, folder: Path, folders: ModelFolders, models_dir: Path, rows: list[TrainingRow]) -> None:
        self.folder = folder
        self.model = folders.find("tests/tiny").ref
        self.models_dir = models_dir
        for part in ("rows", "checkpoint"):
            (folder / part).mkdir()
        write_rows(folder / "rows" / TRAINING_FILE, rows)
        self.checkpoint = folder / "checkpoint"
        self._children: list[WarmChild] = []

    def attempt(
        self, settings: TrainingSettings, *, checkpoint_seconds: float, wiring: str = WIRING, **environment: str
    ) -> tuple[WarmChild, ChildListener]:
        own = {
            "CRAFT_MODELS_DIR": str(self.models_dir),
            "CRAFT_STATE_DIR": str(self.folder / "state"),
            "CRAFT_TRAINING__DEVICE": "cpu",
            "CRAFT_TRAINING__THREADS": "1",
            "CRAFT_TRAINING__CHECKPOINT_SECONDS": str(checkpoint_seconds),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH")))),
        }
        child, listener = (
            WarmChild(wiring, WorkerSettings(), environment=os.environ | own | environment),
            ChildListener(),
        )
        self._children.append(child)
        output = self.folder / f"output{len(self._children)}"
        output.mkdir()
        parameters = TuneParameters(model=self.model, trainer=TrainerRef(dtype="float32"), training=settings, seed=3)
        child.start(StageWork(parameters, {"rows": self.folder / "rows"}, output, self.checkpoint), listener)
        return child, listener

    def saved_step(self) -> int:
        """The step of the one whole checkpoint."""
        (folder,) = self.checkpoint.glob("step-*")
        return int(folder.name.removeprefix("step-"))

    def close(self) -> None:
        for child in self._children:
            child.kill(grace_seconds=0)
            child.close()


@pytest.fixture
def training(
    tmp_path: Path, folders: ModelFolders, models_dir: Path, row: Row, facts: list[tuple[str, str]]
) -> Iterator[Training]:
    made = Training(tmp_path, folders, models_dir, [row(question, answer) for question, answer in facts])
    yield made
    made.close()


def test_on_sigterm_the_current_step_becomes_a_checkpoint_and_the_next_attempt_resumes_it(
    training: Training,
) -> None:
    child, listener = training.attempt(LONG, checkpoint_seconds=1e9)
    seen = [listener.steps.get(timeout=TIMEOUT_SECONDS) for _ in range(3)][-1]
    began = time.monotonic()
    child.kill(grace_seconds=GRACE_SECONDS)
    assert time.monotonic() - began < GRACE_SECONDS
    died = listener.outcomes.get(timeout=TIMEOUT_SECONDS)
    assert isinstance(died, Died)
    assert died.exit_code == 143, listener.lines
    saved = training.saved_step()
    assert saved >= seen
    # No checkpoint was due: without this one the next attempt would start from the beginning.
    _, again = training.attempt(LONG, checkpoint_seconds=1e9)
    assert again.steps.get(timeout=TIMEOUT_SECONDS) == saved + 1


def test_a_process_that_is_killed_while_it_saves_leaves_the_checkpoint_before(training: Training) -> None:
    half = training.folder / "optimizer's state"
    os.mkfifo(half)
    stuck = {"STUCK_AFTER": "7", "STUCK_IN": str(half)}
    child, listener = training.attempt(SHORT, checkpoint_seconds=0.0, wiring=FAULTY, **stuck)
    with half.open("rb") as pipe:
        assert pipe.read(1000)
        child.kill(grace_seconds=0)
    assert isinstance(listener.outcomes.get(timeout=TIMEOUT_SECONDS), Died)
    assert training.saved_step() == 7
    _, again = training.attempt(SHORT, checkpoint_seconds=0.0)
    outcome = again.outcomes.get(timeout=TIMEOUT_SECONDS)
    assert isinstance(outcome, Finished), again.lines
    assert (outcome.result.counts["resumed_at_step"], outcome.result.counts["steps"]) == (7, 30)
    assert training.saved_step() is not None
