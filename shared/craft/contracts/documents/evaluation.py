"""An evaluation: the metrics of each candidate, and their differences from the base model's."""

from typing import Annotated

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.spec.jobs import Seed
from craft.core.metrics import MetricEstimate
from craft.core.questions import Task

MAX_CANDIDATES = 20
INITIAL_BASIC = "initial_basic"
INITIAL_REFUSE = "initial_refuse"
Id = Annotated[str, Field(min_length=1, max_length=500)]
Text = Annotated[str, Field(max_length=20_000)]


# --- metrics
class EstimateView(Contract):
    """A value with its bootstrap 95 % interval. An undefined value is null, with a reason."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @classmethod
    def of(cls, estimate: MetricEstimate) -> "EstimateView":
        """The view of a metric of the core, or of a difference."""
        low, high = (estimate.interval.low, estimate.interval.high) if estimate.interval else (None, None)
        return cls(value=estimate.value, low=low, high=high, reason=estimate.reason)


class MetricSet(Contract):
    """All metrics of method.md as shares of questions; THS is in [-Pc0/Pw0, 1]."""

    pc: EstimateView = Field(description="Right answers.")
    pw: EstimateView = Field(description="Wrong answers.")
    pr: EstimateView = Field(description="Refusals.")
    pu: EstimateView = Field(description="Unparsed replies.")
    ths: EstimateView = Field(description="Truthful helpfulness score: Pc - Pw * Pc0/Pw0.")
    over_refusal: EstimateView = Field(description="Refusals among the questions that the baseline answers right.")
    selective_accuracy: EstimateView = Field(description="Pc / (Pc + Pw).")
    coverage: EstimateView = Field(description="Share of answered questions.")
    abstain_precision: EstimateView = Field(
        description="Share of the refusals whose question the baseline does not answer right."
    )
    abstain_recall: EstimateView = Field(
        description="Refusals among the questions that the baseline does not answer right."
    )
    abstain_f1: EstimateView


class CategoryRates(Contract):
    """The shares of the outcomes in one category; they sum to 1."""

    count: int
    right: float
    wrong: float
    refused: float
    unparsed: float


class ModelMetrics(Contract):
    """One model on one evaluation set. Micro gives questions equal weight, macro gives categories equal weight."""

    count: int
    micro: MetricSet
    macro: MetricSet
    categories: dict[str, CategoryRates] = Field(description="By category; questions without one are `uncategorised`.")


class Differences(Contract):
    """The metrics of one model minus those of another, over the same resampled questions (paired bootstrap)."""

    ths: EstimateView
    over_refusal: EstimateView
    pc: EstimateView
    pw: EstimateView
    pr: EstimateView
    selective_accuracy: EstimateView


class CandidateMetrics(Contract):
    """A candidate's metrics and its paired differences from the baseline."""

    metrics: ModelMetrics
    versus_baseline: Differences


# --- evaluation.json
class EvaluatedSet(Contract):
    """A candidate and both baselines on one evaluation set."""

    initial_basic: ModelMetrics
    initial_refuse: ModelMetrics
    candidate: ModelMetrics
    versus_initial_basic: Differences
    versus_initial_refuse: Differences


class EvaluationDocument(Contract):
    """`evaluation.json`, by evaluation set: `held_out` first, then each further set by its name."""

    task: Task
    candidate: str = Field(description="The strategy's name.")
    resamples: int
    seed: Seed
    sets: dict[str, EvaluatedSet]
