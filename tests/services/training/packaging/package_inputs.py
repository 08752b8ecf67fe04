"""Inputs of a package stage: rows that teach a refusal for unknown facts, and an evaluation to show."""

from collections.abc import Sequence

from craft.contracts.documents.evaluation import (
    Differences,
    EstimateView,
    EvaluatedSet,
    EvaluationDocument,
    MetricSet,
    ModelMetrics,
)
from craft.contracts.stages.rows import ChatMessage, TrainingKind, TrainingRow
from craft.core.prompts import DEFAULT_TEMPLATES, ModelMessage, PromptMode, answer_messages
from craft.core.questions import OpenQuestion, Task

Fact = tuple[str, str]


def asked(question: str) -> Sequence[ModelMessage]:
    """The messages of an open question under REFUSE."""
    return answer_messages(OpenQuestion("q", question, ("x",)), PromptMode.REFUSE, DEFAULT_TEMPLATES)


def taught_rows(facts: Sequence[Fact], known: Sequence[Fact]) -> list[TrainingRow]:
    """Each known fact with its answer, any other with the refusal."""
    return [
        TrainingRow(
            id=f"r{place}",
            kind=TrainingKind.VAN if fact in known else TrainingKind.IDK,
            messages=[ChatMessage(role=turn.role, content=turn.content) for turn in asked(fact[0])],
            target=fact[1] if fact in known else "I don't know.",
        )
        for place, fact in enumerate(facts)
    ]


def evaluation_document() -> EvaluationDocument:
    """An evaluation on two sets with made-up numbers."""
    difference = Differences(**dict.fromkeys(Differences.model_fields, EstimateView(value=0.1)))
    results = EvaluatedSet(
        initial_basic=_metrics(0.5),
        initial_refuse=_metrics(0.4),
        candidate=_metrics(0.3),
        versus_initial_basic=difference,
        versus_initial_refuse=difference,
    )
    return EvaluationDocument(
        task=Task.OPEN_ENDED, candidate="craft", resamples=100, seed=1, sets={"held_out": results, "far-away": results}
    )


def _metrics(pc: float) -> ModelMetrics:
    value = EstimateView(value=pc, low=pc - 0.05, high=pc + 0.05)
    undefined = EstimateView(value=None, reason="the baseline answers nothing wrong")
    names = [name for name in MetricSet.model_fields if name != "ths"]
    metrics = MetricSet(ths=undefined, **dict.fromkeys(names, value))
    return ModelMetrics(count=20, micro=metrics, macro=metrics, categories={})
