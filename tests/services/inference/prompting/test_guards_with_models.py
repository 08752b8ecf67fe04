"""The guards with real models: each model or dataset has one fault that real ones have, and the sound ones pass."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.tiny_model import made_up_facts, make_tiny_model

from craft.contracts.spec.jobs import ProbeSettings, PromptSettings
from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.parameters import AnswerParameters, EngineRef, ModelRef, ProbeParameters
from craft.contracts.stages.rows import HELD_OUT_FILE, TRAIN_FILE, QuestionRow
from craft.core.prompts import PromptMode
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question, Task
from craft.errors import RepliesUnusable
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import write_rows
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.engine_holder import EngineHolder
from craft_inference.stages import answer, probe

Fact = tuple[str, str]
FIRST = "Stopped after 32 of 80 questions"


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    return made_up_facts(80, seed=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, facts: list[Fact]) -> Path:
    """A model that knows every second fact."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny"), facts, seed=1)


def with_end_token(model: Path, folder: Path, token: str, number: int) -> Path:
    """A copy of the model whose configuration ends turns with this token."""
    shutil.copytree(model, folder)
    for name in ("tokenizer_config.json", "generation_config.json", "config.json"):
        value = json.loads((folder / name).read_text())
        value |= {"eos_token": token} if name == "tokenizer_config.json" else {"eos_token_id": number}
        (folder / name).write_text(json.dumps(value))
    return folder


def asked(
    model: Path, folder: Path, questions: Sequence[Question], *, limit: int = 16, mode: PromptMode | None = None
) -> StageResult:
    """A probe of the questions, or greedy answers to them."""
    task = Task.MULTIPLE_CHOICE if isinstance(questions[0], ChoiceQuestion) else Task.OPEN_ENDED
    for name in ("in", "out", "checkpoint"):
        (folder / name).mkdir(parents=True)
    write_rows(folder / "in" / TRAIN_FILE, map(QuestionRow.of, questions))
    write_rows(folder / "in" / HELD_OUT_FILE, map(QuestionRow.of, questions if mode else []))
    ref, engine = (
        ModelRef(id="tiny", revision="main", digest="0" * 64),
        EngineRef(dtype="float32", questions_per_shard=32),
    )
    context = LocalContext(folder / "out", folder / "checkpoint", {"questions": folder / "in"})
    holder = EngineHolder(
        lambda *_: TransformersEngine.load(model, dtype="float32"), lambda _: model, name="transformers"
    )
    if mode is not None:
        answering = AnswerParameters(
            task=task, model=ref, engine=engine, mode=mode, max_new_tokens=limit, prompts=PromptSettings()
        )
        return answer(answering, context, engines=holder)
    settings = ProbeSettings(samples=3, temperature=0.7, max_new_tokens=limit)
    probing = ProbeParameters(task=task, model=ref, engine=engine, probe=settings, prompts=PromptSettings(), seed=1)
    return probe(probing, context, engines=holder)


def questions_of(facts: Sequence[Fact], answer_of: Callable[[str], str] = str) -> list[OpenQuestion]:
    return [OpenQuestion(f"f{n}", question, (answer_of(known),)) for n, (question, known) in enumerate(facts)]


def test_a_sound_model_and_dataset_pass_every_guard(model: Path, facts: list[Fact], tmp_path: Path) -> None:
    probed = asked(model, tmp_path / "probe", questions_of(facts))
    answered = asked(model, tmp_path / "answer", questions_of(facts), mode=PromptMode.BASIC)
    assert probed.findings == answered.findings == []
    assert probed.metrics["cut_share"] < 0.05
    assert answered.metrics["cut_share"] < 0.05


@pytest.mark.parametrize("mode", [None, PromptMode.BASIC, PromptMode.REFUSE])
def test_a_limit_below_every_reply_stops_each_stage(
    model: Path, facts: list[Fact], tmp_path: Path, mode: PromptMode | None
) -> None:
    with pytest.raises(
        RepliesUnusable, match=rf"{FIRST}\. 100\s% of .* were cut.* limit of 1 new tokens is too low"
    ) as raised:
        asked(model, tmp_path / "stage", questions_of(facts), limit=1, mode=mode)
    field = "evaluation_settings.max_new_tokens" if mode else "probe.max_new_tokens"
    assert raised.value.hint is not None
    assert raised.value.hint.startswith(f"Raise {field}.")


def test_the_token_that_the_template_writes_after_a_reply_ends_it_where_the_configuration_names_another(
    model: Path, facts: list[Fact], tmp_path: Path
) -> None:
    other = with_end_token(model, tmp_path / "model", "<|endoftext|>", 0)
    probed = asked(other, tmp_path / "stage", questions_of(facts), limit=40)
    assert probed.findings == []
    assert probed.metrics["cut_share"] < 0.05


def test_a_template_without_an_end_beside_a_configuration_with_another_one_stops_the_probe(
    model: Path, facts: list[Fact], tmp_path: Path
) -> None:
    broken = with_end_token(model, tmp_path / "model", "<|endoftext|>", 0)
    template = (broken / "chat_template.jinja").read_text()
    (broken / "chat_template.jinja").write_text(
        template.replace("'<|im_end|>'", "('<|im_end|>' if not loop.last else '')")
    )
    with pytest.raises(RepliesUnusable, match=rf"{FIRST}\. .* were cut at the limit of 40.*does not end its turn"):
        asked(broken, tmp_path / "stage", questions_of(facts), limit=40)


def test_a_control_token_in_each_answer_stops_the_probe_and_blames_the_data(
    model: Path, facts: list[Fact], tmp_path: Path
) -> None:
    marked = questions_of(facts, lambda known: f"{known}<|im_end|>")
    with pytest.raises(RepliesUnusable, match=r"after 64 of 80 .*None of .*accepted answers .* hold control tokens"):
        asked(model, tmp_path / "stage", marked)


def test_answers_joined_by_a_bad_export_stop_the_probe_and_blame_the_data(
    model: Path, facts: list[Fact], tmp_path: Path
) -> None:
    joined = questions_of(facts, lambda known: f"{known}{known} City")
    with pytest.raises(RepliesUnusable, match=r"after 64 of 80 .*None of .*but the dataset has them in another form"):
        asked(model, tmp_path / "stage", joined)


def test_letters_as_open_answers_stop_the_probe_and_name_the_task(
    model: Path, facts: list[Fact], tmp_path: Path
) -> None:
    lettered = [
        OpenQuestion(question.id, question.question, ("ABCD"[n % 4],)) for n, question in enumerate(questions_of(facts))
    ]
    with pytest.raises(RepliesUnusable, match=r"after 64 of 80 .*multiple-choice rows were read as open-ended"):
        asked(model, tmp_path / "stage", lettered)


def test_a_model_that_begins_no_reply_with_a_letter_stops_the_probe(
    model: Path, facts: list[Fact], tmp_path: Path
) -> None:
    choices = [
        ChoiceQuestion(f"c{n}", question, (known, "Nowhere"), n % 2) for n, (question, known) in enumerate(facts)
    ]
    with pytest.raises(
        RepliesUnusable, match=rf"{FIRST}\. Only .* is on the offered letters.*does not begin with a letter"
    ):
        asked(model, tmp_path / "stage", choices)
