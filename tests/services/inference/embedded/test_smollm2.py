"""The embedded engine with the real SmolLM2-135M-Instruct."""

import math
from pathlib import Path

import pytest

from craft.core.prompts import DEFAULT_TEMPLATES, ModelMessage, probe_messages
from craft.core.questions import ChoiceQuestion, OpenQuestion
from craft.core.shots import DEFAULT_CHOICE_SHOTS, DEFAULT_OPEN_SHOTS
from craft_inference.embedded.engine import TransformersEngine
from craft_inference.engine import LetterPrompt, Prompt, Sampling

pytestmark = pytest.mark.model
COUNTRIES = ("France", "Peru", "Japan", "Norway", "Egypt", "Kenya")


@pytest.fixture(scope="module")
def engine(smollm2: Path) -> TransformersEngine:
    return TransformersEngine.load(smollm2)


def probes() -> list[Prompt]:
    asked = [OpenQuestion(name, f"What is the capital of {name}?", ("?",)) for name in COUNTRIES]
    return [
        Prompt(question.id, tuple(probe_messages(question, DEFAULT_OPEN_SHOTS, DEFAULT_TEMPLATES)))
        for question in asked
    ]


def test_it_knows_the_capital_of_france(engine: TransformersEngine) -> None:
    prompt = Prompt("a", (ModelMessage("user", "What is the capital of France?"),))
    (row,) = engine.generate([prompt], Sampling(max_new_tokens=20)).rows

    assert row.texts == ("The capital of France is Paris.",)


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(engine: TransformersEngine) -> None:
    first, again, other = (
        engine.generate(probes(), Sampling(max_new_tokens=10, samples=5, temperature=1.0, seed=seed)).rows
        for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_probing_prefills_the_shots_once(engine: TransformersEngine) -> None:
    usage = engine.generate(probes(), Sampling(max_new_tokens=10, samples=10, temperature=1.0)).usage

    assert usage.prompt_tokens > 6 * 150
    assert usage.prefilled_tokens < 150 + 6 * 20


def test_letters_carry_most_of_the_mass_after_the_shots(engine: TransformersEngine) -> None:
    question = ChoiceQuestion("a", "What is the capital of France?", ("Rome", "Paris", "Oslo", "Lima"), 1)
    messages = tuple(probe_messages(question, DEFAULT_CHOICE_SHOTS, DEFAULT_TEMPLATES))
    (row,) = engine.letters([LetterPrompt("a", messages, question.letters)]).rows

    assert 0.9 < sum(map(math.exp, row.logprobs)) <= 1.0
