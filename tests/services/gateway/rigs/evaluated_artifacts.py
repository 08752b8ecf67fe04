"""Writes the artifact of an evaluate stage without a model: random outcomes and their metrics."""

import random
from pathlib import Path

from craft.contracts.documents.evaluation import EvaluatedSet, EvaluationDocument
from craft.contracts.stages.names import HELD_OUT
from craft.contracts.stages.parameters import EvaluateParameters
from craft.contracts.stages.rows import EVALUATION_FILE, OUTCOMES_FILE, OutcomeRow
from craft.core.evaluated import Evaluated
from craft.core.judging.answers import Outcome
from craft.infra.storage.artifacts import write_rows
from craft_scoring.metric_views import differences, measured

QUESTIONS = 40
_RESAMPLES = 100


def outcomes(model: str, seed: int, *, count: int = QUESTIONS, baseline_seed: int = 0) -> list[Evaluated]:
    """Draw outcomes. Those of M0 under BASIC depend on `baseline_seed` only; those of others on name and seed."""
    source = baseline_seed if model == "initial_basic" else f"{model} {seed}"
    draw = random.Random(str(source))
    choices = [Outcome.RIGHT, Outcome.WRONG] if model == "initial_basic" else [*Outcome][:3]
    return [Evaluated(f"q{n}", draw.choice(choices), "capital" if n % 2 else "sum") for n in range(count)]


def write_evaluation(folder: Path, parameters: EvaluateParameters, sets: tuple[str, ...] = (HELD_OUT,)) -> None:
    """Write `evaluation.json` and `outcomes.jsonl`."""
    models = ("initial_basic", "initial_refuse", parameters.candidate)
    judged = {model: outcomes(model, parameters.seed) for model in models}
    rows = [
        OutcomeRow(set=name, id=row.id, model=model, reply="…", outcome=row.outcome, category=row.category)
        for name in sets
        for model in models
        for row in judged[model]
    ]
    write_rows(folder / OUTCOMES_FILE, rows)
    basic, refuse, candidate = judged.values()
    options = {"resamples": _RESAMPLES, "seed": parameters.seed}
    evaluated = EvaluatedSet(
        initial_basic=measured(basic, basic, **options),
        initial_refuse=measured(refuse, basic, **options),
        candidate=measured(candidate, basic, **options),
        versus_initial_basic=differences(candidate, basic, basic, **options),
        versus_initial_refuse=differences(candidate, refuse, basic, **options),
    )
    document = EvaluationDocument(
        task=parameters.task,
        candidate=parameters.candidate,
        resamples=_RESAMPLES,
        seed=parameters.seed,
        sets=dict.fromkeys(sets, evaluated),
    )
    (folder / EVALUATION_FILE).write_text(document.model_dump_json())
