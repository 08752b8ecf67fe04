"""The deliverable loads with PEFT, replies as the engine did, has a card, and is the same bytes each time."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from peft import PeftModel
from tests.services.training.packaging.package_inputs import evaluation_document, taught_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.parameters import PackageParameters, TrainerRef, TuneParameters
from craft.contracts.stages.rows import QuestionRow, ReplyRow, TrainingKind, TrainingRow
from craft.core.prompts import DEFAULT_TEMPLATES, PromptMode, answer_messages
from craft.core.questions import OpenQuestion
from craft.errors import AdapterUnservable, Internal
from craft.infra.models.folders import ModelFolders
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import read_rows, write_rows
from craft_training.base_models import BaseModel, BaseModels, with_adapter
from craft_training.packaging.greedy import greedy
from craft_training.stages import TrainingStages
from craft_training.tuning.throughput import KnownThroughput

Facts = list[tuple[str, str]]
SETTINGS = TrainingSettings(lora_r=16, learning_rate=1e-2, epochs=12, batch_size=8)


def _prompt(base: BaseModel, question: str) -> str:
    asked = answer_messages(OpenQuestion("q", question, ("x",)), PromptMode.REFUSE, DEFAULT_TEMPLATES)
    return base.chat.prompt(asked)


def _silent(done: int, total: int) -> None:
    """Ignore the progress."""


@pytest.fixture(scope="module")
def stages(models: BaseModels) -> TrainingStages:
    return TrainingStages(models, checkpoint_seconds=1e9, throughput=KnownThroughput())


@pytest.fixture(scope="module")
def inputs(
    stages: TrainingStages, base: BaseModel, facts: Facts, known: Facts, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """All inputs of a package stage, from a real tuning that teaches refusal for the unknown facts."""
    root = tmp_path_factory.mktemp("package")
    folders = {name: root / name for name in ("questions", "tuned", "rows", "candidate", "evaluation", "checkpoint")}
    for folder in folders.values():
        folder.mkdir()
    write_rows(folders["rows"] / "training.jsonl", taught_rows(facts[:20], known))
    stages.tune(
        TuneParameters(model=base.ref, trainer=base.trainer, training=SETTINGS, seed=1),
        LocalContext(folders["tuned"], folders["checkpoint"], {"rows": folders["rows"]}),
    )
    held_out = [QuestionRow(id=f"h{i}", question=q, answers=[a]) for i, (q, a) in enumerate(facts)]
    write_rows(folders["questions"] / "held_out.jsonl", held_out)
    with with_adapter(base, str(folders["tuned"] / "adapter")) as model:
        # One at a time, which differs from the stage's batches as much as possible.
        replies = [
            greedy(model, base.chat, [_prompt(base, q)], max_new_tokens=8, on_progress=_silent)[0] for q, _ in facts
        ]
    write_rows(
        folders["candidate"] / "replies.jsonl",
        [ReplyRow(set="held_out", id=f"h{i}", reply=reply) for i, reply in enumerate(replies)],
    )
    (folders["evaluation"] / "evaluation.json").write_text(evaluation_document().model_dump_json())
    folders.pop("checkpoint")
    return folders


@pytest.fixture
def context(inputs: dict[str, Path], tmp_path: Path) -> Callable[[str], LocalContext]:
    def make(name: str) -> LocalContext:
        (tmp_path / name).mkdir()
        return LocalContext(output=tmp_path / name, checkpoint=tmp_path, inputs=dict(inputs))

    return make


Context = Callable[[str], LocalContext]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT's own
def test_the_package_loads_with_peft_and_refuses_what_it_was_taught_to(
    stages: TrainingStages,
    parameters: PackageParameters,
    context: Context,
    folders: ModelFolders,
    facts: Facts,
    known: Facts,
) -> None:
    made = context("out")
    result = stages.package(parameters, made)
    assert result.metrics["agreeing_share"] == 1.0
    assert result.counts["compared"] == 20
    with tarfile.open(made.output / "adapter.tar.gz") as archive:
        archive.extractall(made.checkpoint / "elsewhere", filter="data")
    adapter = made.checkpoint / "elsewhere" / "adapter"
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    fresh = AutoModelForCausalLM.from_pretrained(folders.find("tests/tiny").path)
    model = PeftModel.from_pretrained(fresh, str(adapter)).eval()
    loaded = BaseModel(folders.find("tests/tiny").ref, fresh, tokenizer, TrainerRef(dtype="float32"), adapter)
    trained = [_prompt(loaded, question) for question, _ in facts[:20]]
    replies = greedy(model, loaded.chat, trained, max_new_tokens=8, on_progress=_silent)
    expected = [answer if (question, answer) in known else "I don't know." for question, answer in facts[:20]]
    assert sum(reply == wanted for reply, wanted in zip(replies, expected, strict=True)) >= 18


def test_the_package_is_complete_and_names_no_path(
    stages: TrainingStages, parameters: PackageParameters, context: Context, folders: ModelFolders
) -> None:
    made = context("out")
    stages.package(parameters, made)
    files = {path.name: path for path in (made.output / "adapter").iterdir()}
    assert {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_format.json",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= files.keys()
    model_folder = str(folders.find("tests/tiny").path)
    for path in files.values():
        assert model_folder.encode() not in path.read_bytes(), path.name
    config = json.loads(files["adapter_config.json"].read_text())
    assert config["base_model_name_or_path"] == "tests/tiny"


def test_the_same_inputs_give_the_same_archive(
    stages: TrainingStages, parameters: PackageParameters, context: Context
) -> None:
    archives = []
    for name in ("one", "two"):
        made = context(name)
        stages.package(parameters, made)
        archives.append((made.output / "adapter.tar.gz").read_bytes())
    assert archives[0] == archives[1]


def test_an_adapter_with_other_replies_is_not_servable(
    stages: TrainingStages, parameters: PackageParameters, context: Context, inputs: dict[str, Path], tmp_path: Path
) -> None:
    made = context("out")
    shutil.copytree(inputs["candidate"], tmp_path / "other")
    lines = (tmp_path / "other" / "replies.jsonl").read_text().splitlines()
    wrong = [line if place % 4 else json.dumps({**json.loads(line), "reply": "?"}) for place, line in enumerate(lines)]
    (tmp_path / "other" / "replies.jsonl").write_text("\n".join(wrong) + "\n")
    changed = LocalContext(made.output, made.checkpoint, {**inputs, "candidate": tmp_path / "other"})
    with pytest.raises(AdapterUnservable, match=r"10 of 20 held-out questions \(50.0%\); at least 90.0%"):
        stages.package(parameters, changed)
    assert not (made.output / "adapter.tar.gz").exists()


def test_a_missing_reply_is_an_internal_error(
    stages: TrainingStages, parameters: PackageParameters, context: Context, inputs: dict[str, Path], tmp_path: Path
) -> None:
    made = context("out")
    (tmp_path / "none").mkdir()
    write_rows(tmp_path / "none" / "replies.jsonl", [ReplyRow(set="far-away", id="h0", reply="?")])
    with pytest.raises(Internal, match=r"lack 20 held-out questions, first .* \(id h0\)"):
        stages.package(
            parameters, LocalContext(made.output, made.checkpoint, {**inputs, "candidate": tmp_path / "none"})
        )


def test_the_base_model_answers_as_before_after_packaging(
    stages: TrainingStages, parameters: PackageParameters, context: Context, models: BaseModels, known: Facts
) -> None:
    stages.package(parameters, context("out"))
    base = models.get(parameters.model, parameters.trainer)
    names = [name for name, _ in base.model.named_modules()]
    assert not any("lora" in name for name in names)
    out = base.model.generate(
        **base.tokenizer(_prompt(base, known[0][0]), return_tensors="pt", add_special_tokens=False),
        max_new_tokens=4,
        do_sample=False,
    )
    assert base.tokenizer.decode(out[0], skip_special_tokens=True).endswith(known[0][1])


def test_the_card_shows_data_parameters_and_results(
    stages: TrainingStages, parameters: PackageParameters, context: Context
) -> None:
    made = context("out")
    stages.package(parameters, made)
    card = (made.output / "adapter" / "README.md").read_text()
    assert card.startswith("---\nbase_model: tests/tiny\nlibrary_name: peft\n")
    assert "- 10 questions keep their answer" in card
    assert "- 10 questions are answered with the refusal" in card
    assert "| lora alpha | 16 |" in card
    assert "| optimiser steps | 36 |" in card
    assert "### held out: 20 questions" in card
    assert "### far-away: 20 questions" in card
    assert "| this adapter, REFUSE prompt | 30.0 (25.0 to 35.0) |" in card
    assert "undefined" in card
    assert "greedy reply to 20 of 20 held-out questions" in card


def test_the_card_promises_no_more_than_the_results_show(
    stages: TrainingStages, parameters: PackageParameters, context: Context, inputs: dict[str, Path], tmp_path: Path
) -> None:
    made = context("out")
    stages.package(parameters, made)
    card = (made.output / "adapter" / "README.md").read_text()
    front = card.split("---")[1]
    assert [front.count(f"- {tag}\n") for tag in ("craft", "lora", "refusal")] == [1, 1, 1]
    assert "It was trained to answer what the base model knows and to refuse what it does not" in card
    assert "taught to reply where it does not know is `I don't know.`" in card

    answered = tmp_path / "answered"
    answered.mkdir()
    rows = read_rows(inputs["rows"] / "training.jsonl", TrainingRow)
    write_rows(answered / "training.jsonl", [row for row in rows if row.kind is TrainingKind.VAN])
    without = context("without")
    stages.package(parameters, LocalContext(without.output, without.checkpoint, {**inputs, "rows": answered}))
    card = (without.output / "adapter" / "README.md").read_text()
    assert "It was trained to answer; how far" in card
    assert "taught to reply" not in card
