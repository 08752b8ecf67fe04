"""Whole jobs on tiny models of each family; those of hybrid families think where their template lets them."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.models.families import GEMMA3, LLAMA32, PHI3, QWEN3, SMOLLM3, Family
from tests.models.whole_jobs import WholeJob
from tests.tiny_model import Fact, Manner, Style, made_up_facts, make_tiny_model

from craft.contracts.stages.rows import REPLIES_FILE, SAMPLES_FILE, QuestionRow
from craft.core.replies.thoughts import has_thought
from craft.errors import Fault, RepliesUnusable

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

THOUGHT = "<think>\nThe capital is {answer}.\n</think>\n{answer}"
FACTS = made_up_facts(48, seed=11)
OFF, ON = Manner({"enable_thinking": False}), Manner({"enable_thinking": True}, THOUGHT)
FAMILIES = {QWEN3: (OFF, ON), SMOLLM3: (OFF, ON), LLAMA32: (Manner(),), GEMMA3: (Manner(),), PHI3: (Manner(),)}
by_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
thinking = pytest.mark.parametrize("family", [QWEN3, SMOLLM3], ids=lambda family: family.name)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models folders that tests have asked for, by family."""
    return {}


def folder_of(family: Family, models: dict[str, Path], factory: pytest.TempPathFactory) -> Path:
    """A models folder with a model of the family, called tiny, which knows every second fact."""
    if family.name not in models:
        style = Style(
            template=family.template,
            control=family.control,
            unmarked=family.unmarked,
            bos=family.bos,
            eos=family.eos,
            end=family.end,
            pad=family.eos,
            manners=FAMILIES[family],
        )
        root = factory.mktemp(family.name)
        steps = 150 * len(style.manners)
        make_tiny_model(root / "tiny", FACTS, seed=1, style=style, steps=steps)
        models[family.name] = root
    return models[family.name]


def rows(facts: list[Fact]) -> list[QuestionRow]:
    return [QuestionRow(id=f"f{n}", question=question, answers=[answer]) for n, (question, answer) in enumerate(facts)]


def texts(folder: Path, file: str) -> list[str]:
    lines: list[Any] = [json.loads(line) for line in (folder / file).read_text().splitlines()]
    return [text for line in lines for text in line.get("samples", [line.get("reply")])]


@by_family
def test_a_whole_job_by_default_holds_no_thought_and_finds_what_the_model_knows(
    family: Family, models: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    job = WholeJob(folder_of(family, models, tmp_path_factory), tmp_path, rows(FACTS))
    job.run()
    replies = texts(job.folder("probe:initial"), SAMPLES_FILE)
    replies += [
        text for name in ("basic", "refuse", "cor-rait") for text in texts(job.folder(f"answer:{name}"), REPLIES_FILE)
    ]
    assert not any(map(has_thought, replies))
    assert not any("<think>" in text for text in replies)
    evaluation = json.loads((job.folder("evaluate:cor-rait") / "evaluation.json").read_text())
    base = evaluation["sets"]["held_out"]["initial_basic"]["micro"]["pc"]["value"]
    assert base > 0.35, "the model knows half of the facts"
    assert job.results["package:cor-rait"].metrics["agreeing_share"] == 1.0
    packaged = json.loads((job.folder("package:cor-rait") / "adapter" / "chat_format.json").read_text())
    assert packaged["arguments"] == job.model.chat.arguments
    card = (job.folder("package:cor-rait") / "adapter" / "README.md").read_text()
    assert ("enable_thinking=False, " in card) is ("enable_thinking" in job.model.chat.arguments)
    assert (f"obtained with {job.model.chat.date}" in card) is family.dated


@thinking
def test_a_thought_that_the_job_asks_for_is_stopped_at_the_first_look(
    family: Family, models: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = folder_of(family, models, tmp_path_factory)
    job = WholeJob(folder, tmp_path, rows(FACTS), chat_template_arguments={"enable_thinking": True})
    with pytest.raises(RepliesUnusable, match="hold a thought") as raised:
        job.run()
    assert raised.value.fault is Fault.USER
    assert "base_model.chat_template_arguments" in (raised.value.hint or "")


def test_a_model_that_thinks_although_its_template_has_no_switch_is_stopped_too(
    models: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = folder_of(QWEN3, models, tmp_path_factory)
    silent = QWEN3.template.replace("enable_thinking is defined and enable_thinking is false", "false")
    job = WholeJob(folder, tmp_path, rows(FACTS), chat_template=silent)
    with pytest.raises(RepliesUnusable, match="hold a thought"):
        job.run()
