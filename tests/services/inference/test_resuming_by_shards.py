"""A killed process costs a probe or an answer stage one shard at most; of its answers one cannot tell the shards."""

import os
from pathlib import Path
from queue import SimpleQueue

import pytest
from tests.services.inference.conftest import fast_engine
from tests.services.inference.test_inference_stages import MODEL, OPEN, ingested, lending

from craft.contracts.job import ProbeSettings, PromptSettings
from craft.contracts.rows import REPLIES_FILE, ReplyRow
from craft.contracts.stages import AnswerParameters, EngineRef, ProbeParameters, StageParameters, StageProgress
from craft.core.prompts import PromptMode
from craft.core.questions import OpenQuestion, Task
from craft.infra.child_channel import Finished
from craft.infra.child_process import Died, Outcome, StageWork
from craft.infra.settings import WorkerSettings
from craft.infra.stage import LocalContext
from craft.infra.supervisor import WarmChild
from craft_inference.stages import answer

PATIENCE_SECONDS = 60
SHARD = 3
COMMON = {
    "task": Task.OPEN_ENDED,
    "model": MODEL,
    "engine": EngineRef(questions_per_shard=SHARD),
    "prompts": PromptSettings(),
}
ANSWER = AnswerParameters(**COMMON, mode=PromptMode.BASIC, max_new_tokens=9)
PROBE = ProbeParameters(**COMMON, probe=ProbeSettings(samples=1), seed=1)


class Listener:
    """Remembers what was asked, and how it ended."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.outcomes: SimpleQueue[Outcome] = SimpleQueue()

    def on_progress(self, progress: StageProgress) -> None:
        """Not looked at."""

    def on_log(self, line: str) -> None:
        self.asked.append(line.removeprefix("asked "))

    def on_outcome(self, outcome: Outcome) -> None:
        self.outcomes.put(outcome)


def attempt(folder: Path, number: int, parameters: StageParameters, **environment: str) -> tuple[Outcome, list[str]]:
    """One attempt in a process of its own: how it ended, and which questions were asked."""
    own = {"PYTHONPATH": str(Path(__file__).parent)}
    child = WarmChild("killed_stages:stage_functions", WorkerSettings(), environment=os.environ | own | environment)
    listener, output = Listener(), folder / f"output{number}"
    output.mkdir()
    work = StageWork(parameters, {"questions": folder / "in"}, output, folder / "checkpoint")
    try:
        child.start(work, listener)
        return listener.outcomes.get(timeout=PATIENCE_SECONDS), listener.asked
    finally:
        child.close()


@pytest.mark.parametrize("parameters", [PROBE, ANSWER], ids=["probe", "answer"])
def test_a_killed_process_costs_one_shard_at_most(tmp_path: Path, parameters: StageParameters) -> None:
    ingested(tmp_path / "in", train=OPEN, held_out=[] if parameters is PROBE else OPEN)
    (tmp_path / "checkpoint").mkdir()
    died, before = attempt(tmp_path, 1, parameters, KILLED_AT="o5")
    finished, after = attempt(tmp_path, 2, parameters)

    assert isinstance(died, Died)
    assert before == ["o0", "o1", "o2", "o3", "o4"]
    assert isinstance(finished, Finished)
    assert after == ["o3", "o4", "o5", "o6"]


def replies(model: Path, questions: Path, where: Path, *, shard: int) -> bytes:
    """What the stage writes into a folder of its own."""
    context = LocalContext(where / "output", where / "checkpoint", {"questions": questions})
    context.output.mkdir(parents=True)
    context.checkpoint.mkdir()
    parameters = ANSWER.model_copy(update={"engine": EngineRef(dtype="float32", questions_per_shard=shard)})
    answer(parameters, context, engines=lending(fast_engine(model)))
    return (context.output / REPLIES_FILE).read_bytes()


def test_in_float32_shards_of_greedy_replies_are_the_bytes_of_one_call(llama: Path, tmp_path: Path) -> None:
    asked = [
        OpenQuestion(f"q{n}", f"What is {'the very ' * (n % 4)}{word} number {n}?", ("?",))
        for n, word in enumerate(("long", "short", "old") * 8)
    ]
    questions = ingested(tmp_path / "in", held_out=asked)
    one_call = replies(llama, questions, tmp_path / "whole", shard=256)

    assert len({ReplyRow.model_validate_json(line).reply for line in one_call.splitlines()}) > len(asked) / 2
    for shard in (1, 5, 7):
        assert replies(llama, questions, tmp_path / f"by {shard}", shard=shard) == one_call
