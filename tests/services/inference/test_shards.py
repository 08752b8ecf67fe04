"""A killed process costs a stage at most one shard, and the shards leave no trace in the stage's rows."""

import os
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

import pytest
import torch
from tests.services.inference.conftest import byte_tokenizer, fast_engine
from tests.services.inference.test_stages import MODEL, OPEN, holding, ingested
from transformers import AutoModelForCausalLM

from craft.contracts.spec.jobs import ProbeSettings, PromptSettings
from craft.contracts.stages.claims import StageProgress
from craft.contracts.stages.parameters import AnswerParameters, EngineRef, ProbeParameters, StageParameters
from craft.contracts.stages.rows import REPLIES_FILE, SAMPLES_FILE, ReplyRow
from craft.core.prompts import PromptMode
from craft.core.questions import OpenQuestion, Task
from craft.infra.settings.worker import WorkerSettings
from craft.infra.stage.channel import Finished
from craft.infra.stage.context import LocalContext
from craft.infra.worker.child_process import ChildOutcome, Died, StageWork
from craft.infra.worker.child_supervisor import WarmChild
from craft_inference.embedded import prefix_attention
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.shards import shard_size
from craft_inference.stages import answer, probe

TIMEOUT_SECONDS = 60
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
    """Keeps the questions that were asked, and the outcome."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.outcomes: SimpleQueue[ChildOutcome] = SimpleQueue()

    def on_progress(self, progress: StageProgress) -> None:
        """Ignored."""

    def on_log(self, line: str) -> None:
        self.asked.append(line.removeprefix("asked "))

    def on_outcome(self, outcome: ChildOutcome) -> None:
        self.outcomes.put(outcome)


def attempt(
    folder: Path, number: int, parameters: StageParameters, **environment: str
) -> tuple[ChildOutcome, list[str]]:
    """One attempt in a process of its own: its outcome, and the questions that were asked."""
    rigs = str(Path(__file__).parent / "rigs")
    own = {"PYTHONPATH": os.pathsep.join(filter(None, (rigs, os.environ.get("PYTHONPATH"))))}
    child = WarmChild("killed_stages:stage_functions", WorkerSettings(), environment=os.environ | own | environment)
    listener, output = Listener(), folder / f"output{number}"
    output.mkdir()
    work = StageWork(parameters, {"questions": folder / "in"}, output, folder / "checkpoint")
    try:
        child.start(work, listener)
        return listener.outcomes.get(timeout=TIMEOUT_SECONDS), listener.asked
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


MANY = [OpenQuestion(f"o{n:03}", f"What is number {n}?", (str(n),)) for n in range(158)]
WHOLE = {"engine": EngineRef()}


@pytest.mark.parametrize(
    ("parameters", "shard"),
    [
        (PROBE.model_copy(update={**WHOLE, "probe": ProbeSettings(samples=10)}), 32),
        (ANSWER.model_copy(update=WHOLE), 96),
    ],
    ids=["probe", "answer"],
)
def test_few_questions_are_several_shards(tmp_path: Path, parameters: StageParameters, shard: int) -> None:
    is_probe = isinstance(parameters, ProbeParameters)
    ingested(tmp_path / "in", train=MANY, held_out=[] if is_probe else MANY)
    (tmp_path / "checkpoint").mkdir()
    died, _ = attempt(tmp_path, 1, parameters, KILLED_AT="o148")
    finished, after = attempt(tmp_path, 2, parameters)

    assert isinstance(died, Died)
    assert isinstance(finished, Finished)
    assert after[0] == f"o{148 - 148 % shard:03}"


@pytest.mark.parametrize(
    ("name", "questions", "replies_each", "size"),
    [
        ("transformers", 158, 10, 32),
        ("transformers", 40, 10, 32),
        ("transformers", 1000, 10, 125),
        ("transformers", 100_000, 10, 200),
        ("transformers", 2000, 100, 20),
        ("transformers", 158, 1, 96),
        ("transformers", 0, 100, 20),
        ("vllm", 158, 10, 64),
        ("vllm", 158, 1, 640),
        ("vllm", 1000, 10, 125),
        ("vllm", 100_000, 10, 2048),
    ],
)
def test_a_shard_is_an_eighth_of_a_stage_but_keeps_the_engine_busy(
    name: Literal["transformers", "vllm"], questions: int, replies_each: int, size: int
) -> None:
    engine = EngineRef(name=name, questions_per_shard={"transformers": 256, "vllm": 2048}[name])
    assert shard_size(questions, replies_each=replies_each, new_tokens=50, engine=engine) == size
    limited = EngineRef(name=name, questions_per_shard=3)
    assert shard_size(questions, replies_each=replies_each, new_tokens=50, engine=limited) == 3


def test_long_replies_make_small_shards_so_that_a_stage_can_give_way() -> None:
    engine = EngineRef(name="transformers")
    assert shard_size(2000, replies_each=100, new_tokens=1000, engine=engine) == 1
    assert shard_size(2000, replies_each=1, new_tokens=1000, engine=engine) == 100


def test_shards_of_another_size_are_no_part_of_an_attempt(tmp_path: Path) -> None:
    ingested(tmp_path / "in", held_out=OPEN)
    (tmp_path / "checkpoint").mkdir()
    otherwise = ANSWER.model_copy(update={"engine": EngineRef(questions_per_shard=2)})
    died, _ = attempt(tmp_path, 1, ANSWER, KILLED_AT="o6")
    finished, after = attempt(tmp_path, 2, otherwise)
    again, none = attempt(tmp_path, 3, otherwise)

    assert isinstance(died, Died)
    assert isinstance(finished, Finished)
    assert isinstance(again, Finished)
    assert (after, none) == ([question.id for question in OPEN], [])
    made = [(tmp_path / f"output{number}" / REPLIES_FILE).read_bytes() for number in (2, 3)]
    assert made[0] == made[1]
    assert [ReplyRow.model_validate_json(line).id for line in made[0].splitlines()] == after


def replies(model: Path, questions: Path, where: Path, *, shard: int) -> bytes:
    """The rows that the stage writes into a folder of its own."""
    context = LocalContext(where / "output", where / "checkpoint", {"questions": questions})
    context.output.mkdir(parents=True)
    context.checkpoint.mkdir()
    parameters = ANSWER.model_copy(update={"engine": EngineRef(dtype="float32", questions_per_shard=shard)})
    answer(parameters, context, engines=holding(fast_engine(model)))
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


def exact_engine(folder: Path) -> TransformersEngine:
    """The model as the service runs it, in float64, so that no rounding moves a draw into another token's share."""
    prefix_attention.register()
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation=prefix_attention.ATTENTION
    )
    return TransformersEngine(model, byte_tokenizer())


def samples(model: Path, questions: Path, where: Path, *, shard: int) -> bytes:
    """The rows that a sampling probe writes into a folder of its own."""
    context = LocalContext(where / "output", where / "checkpoint", {"questions": questions})
    context.output.mkdir(parents=True)
    context.checkpoint.mkdir()
    drawn = {
        "engine": EngineRef(dtype="float32", questions_per_shard=shard),
        "probe": ProbeSettings(samples=3, max_new_tokens=6, shots=[{"question": "Why?", "answer": "So."}]),
    }
    probe(PROBE.model_copy(update=drawn), context, engines=holding(exact_engine(model)))
    return (context.output / SAMPLES_FILE).read_bytes()


def test_in_float64_shards_of_draws_are_the_bytes_of_one_call(llama: Path, tmp_path: Path) -> None:
    asked = [OpenQuestion(f"q{n}", f"What is {'the very ' * (n % 4)}number {n}?", ("?",)) for n in range(24)]
    questions = ingested(tmp_path / "in", train=asked)
    one_call = samples(llama, questions, tmp_path / "whole", shard=256)
    for shard in (1, 5, 7):
        assert samples(llama, questions, tmp_path / f"by {shard}", shard=shard) == one_call
