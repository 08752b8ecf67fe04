"""The card's code, run as it stands, gives the replies that were evaluated, with this transformers and version 4."""

import json
import os
import re
import shutil
import string
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.services.training.packaging.package_inputs import asked, evaluation_document, taught_rows

from craft.contracts.spec.jobs import PromptSettings, TrainingSettings
from craft.contracts.stages.parameters import PackageParameters, TrainerRef, TuneParameters
from craft.contracts.stages.rows import QuestionRow, ReplyRow
from craft.core.prompts import PromptMode, answer_messages, answer_template, templates_from
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question, Task
from craft.core.strategies import Strategy
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.training import TrainingServiceSettings
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import write_rows
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.engine import Prompt, Sampling
from craft_training.base_models import BaseModels
from craft_training.packaging.card_usage import usage
from craft_training.stages import TrainingStages
from craft_training.tuning.throughput import KnownThroughput

Facts = list[tuple[str, str]]
SETTINGS = TrainingSettings(lora_r=16, learning_rate=1e-2, epochs=14, batch_size=8)
NEW_TOKENS = 8
GENERATION: dict[str, dict[str, Any]] = {
    "plain": {},
    "penalties": {"repetition_penalty": 2.5, "no_repeat_ngram_size": 1, "do_sample": True, "temperature": 3.0},
    "lengths and words": {"min_new_tokens": 6, "suppress_tokens": [40, 41, 42], "max_length": 30, "num_beams": 3},
}
TRANSFORMERS_4 = Path(__file__).parents[4] / ".craft" / "transformers4" / "bin" / "python"
ASK_ALL = """
import json

print(json.dumps([ask(question) for question in json.load(open("questions.json"))]))
"""


class Delivered(NamedTuple):
    """A folder as a user has it: the archive unpacked, the base model under its id, and the engine's replies."""

    folder: Path
    questions: list[str]
    replies: list[str]


def deliver(base: Path, facts: Facts, known: Facts, generation: dict[str, Any], root: Path) -> Delivered:
    """Tune, answer with the serving engine and package, on a base model with this generation configuration."""
    model = root / "models" / "tests" / "tiny"
    shutil.copytree(base, model)
    own = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps({**own, **generation}))
    folders = ModelFolders(root / "models")
    ref, trainer = folders.find("tests/tiny").ref, TrainerRef(dtype="float32")
    names = ("questions", "tuned", "rows", "candidate", "evaluation", "checkpoint", "made")
    at = {name: root / name for name in names}
    for folder in at.values():
        folder.mkdir()
    stages = TrainingStages(
        BaseModels(folders, TrainingServiceSettings(device="cpu", threads=1)),
        checkpoint_seconds=1e9,
        throughput=KnownThroughput(),
    )
    write_rows(at["rows"] / "training.jsonl", taught_rows(facts[:20], known))
    stages.tune(
        TuneParameters(model=ref, trainer=trainer, training=SETTINGS, seed=1),
        LocalContext(at["tuned"], at["checkpoint"], {"rows": at["rows"]}),
    )
    rows = [QuestionRow(id=f"h{place}", question=q, answers=[a]) for place, (q, a) in enumerate(facts)]
    write_rows(at["questions"] / "held_out.jsonl", rows)
    prompts = [Prompt(row.id, tuple(asked(row.question))) for row in rows]
    engine = TransformersEngine.load(model, dtype="float32")
    sampling = Sampling(max_new_tokens=NEW_TOKENS, samples=1, temperature=0.0, seed=1)
    replies = [reply.texts[0] for reply in engine.generate(prompts, sampling, adapter=at["tuned"] / "adapter").rows]
    written = [ReplyRow(set="held_out", id=row.id, reply=reply) for row, reply in zip(rows, replies, strict=True)]
    write_rows(at["candidate"] / "replies.jsonl", written)
    (at["evaluation"] / "evaluation.json").write_text(evaluation_document().model_dump_json())
    parameters = PackageParameters(
        task=Task.OPEN_ENDED,
        model=ref,
        trainer=trainer,
        strategy=Strategy.CRAFT,
        prompts=PromptSettings(),
        max_new_tokens=NEW_TOKENS,
    )
    inputs = {name: at[name] for name in ("questions", "tuned", "rows", "candidate", "evaluation")}
    stages.package(parameters, LocalContext(at["made"], at["checkpoint"], inputs))
    user = root / "user"
    with tarfile.open(at["made"] / "adapter.tar.gz") as archive:
        archive.extractall(user, filter="data")
    (user / "tests").mkdir()
    (user / "tests" / "tiny").symlink_to(model)
    (user / "questions.json").write_text(json.dumps([row.question for row in rows]))
    return Delivered(user, [row.question for row in rows], [reply.strip() for reply in replies])


def replies_of_the_card(delivered: Delivered, python: str) -> list[str]:
    """The replies of the card's code to all questions, run as it stands by this interpreter."""
    code = _code((delivered.folder / "adapter" / "README.md").read_text()) + ASK_ALL
    # Nothing of the project may help: only what the interpreter's own environment has.
    clean = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [python, "-c", code],
        cwd=delivered.folder,
        env={**clean, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    replies: list[str] = json.loads(done.stdout.splitlines()[-1])
    return replies


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own
@pytest.mark.parametrize("generation", GENERATION.values(), ids=GENERATION)
def test_the_cards_code_gives_every_reply_that_was_evaluated(
    models_dir: Path, facts: Facts, known: Facts, generation: dict[str, Any], tmp_path: Path
) -> None:
    delivered = deliver(models_dir / "tests" / "tiny", facts, known, generation, tmp_path)
    assert "I don't know." in delivered.replies
    assert replies_of_the_card(delivered, sys.executable) == delivered.replies


@pytest.mark.servers
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own
def test_transformers_4_and_an_older_peft_load_the_adapter_and_give_the_same_replies(
    models_dir: Path, facts: Facts, known: Facts, tmp_path: Path
) -> None:
    delivered = deliver(models_dir / "tests" / "tiny", facts, known, GENERATION["penalties"], tmp_path)
    versions = subprocess.run(
        [TRANSFORMERS_4, "-c", "import peft, transformers; print(transformers.__version__, peft.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert versions.stdout.startswith("4.57.")
    assert " 0.15." in versions.stdout
    assert replies_of_the_card(delivered, str(TRANSFORMERS_4)) == delivered.replies


def _code(card: str) -> str:
    match = re.search(r"^(`{3,})python\n(.*?)\n\1$", card, re.DOTALL | re.MULTILINE)
    assert match is not None
    return match[2]


def _prompt_of(card: str) -> Callable[..., str]:
    """The card's `prompt` function, without the lines that need a model."""
    code = _code(card)
    names: dict[str, Any] = {"re": re, "string": string}
    exec(code[code.index("PROMPT = ") : code.index("def ask(")], names)  # noqa: S102 - code of our own card
    made: Callable[..., str] = names["prompt"]
    return made


OWN_WORDS = {
    "open_refuse": 'On {topic}, in one word; else say "{refusal}":\n```\n{question}\n```',
    "choice_refuse": "{topic}: {question}\n{options}\nOne of {letters} ({letters_comma}), or '{refusal_words}': ",
    "choice_option": "({letter}) {option}",
    "or_word": "oder",
    "default_topic": "all_sorts",
    "refusal": "I do not know that.",
}
QUESTIONS = [
    OpenQuestion("a", "Who wrote {topic} and \\1 {question}?", ("x",)),
    OpenQuestion("b", "Wer schrieb »Faust«?", ("x",), "great_books"),
    ChoiceQuestion("c", "Which {options}?", ("{letter}", "two"), 0),
    ChoiceQuestion("d", "Which?", ("one", "{question}", "three", "four"), 0, "world_facts"),
]


@pytest.mark.parametrize("templates", [{}, OWN_WORDS], ids=["ours", "own"])
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_the_cards_prompt_is_the_one_of_evaluation(
    parameters: PackageParameters, question: Question, templates: dict[str, str]
) -> None:
    choices = [list(question.choices)] if isinstance(question, ChoiceQuestion) else []
    task = Task.MULTIPLE_CHOICE if choices else Task.OPEN_ENDED
    own = parameters.model_copy(update={"task": task, "prompts": PromptSettings(templates=templates)})
    card = "\n".join(usage(own, generation={"do_sample": False}, refuses=True))
    more = {"topic": question.category} if question.category else {}
    asked = answer_messages(question, PromptMode.REFUSE, templates_from(templates))
    assert _prompt_of(card)(question.question, *choices, **more) == asked[0].content
    assert answer_template(task, PromptMode.REFUSE, templates_from(templates)) in card
