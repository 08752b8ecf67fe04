"""An evaluation: metrics of each candidate, and how they differ from the base model's."""

from typing import Annotated

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.spec.jobs import Seed
from craft.core.metrics import MetricEstimate
from craft.core.questions import Task

MOST_CANDIDATES = 20
INITIAL_BASIC = "initial_basic"
INITIAL_REFUSE = "initial_refuse"
Id = Annotated[str, Field(min_length=1, max_length=500)]
Text = Annotated[str, Field(max_length=20_000)]


# --- metrics
class EstimateView(Contract):
    """A value with its bootstrap 95 % interval; where it is undefined, null and the reason."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    @classmethod
    def of(cls, found: MetricEstimate) -> "EstimateView":
        """The view of one of the core's metrics, or of a difference in one."""
        low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
        return cls(value=found.value, low=low, high=high, reason=found.reason)


class MetricSet(Contract):
    """Every metric of method.md as a share of questions (THS lies in [-Pc0/Pw0, 1])."""

    pc: EstimateView = Field(description="Answered right.")
    pw: EstimateView = Field(description="Answered wrong.")
    pr: EstimateView = Field(description="Refused.")
    pu: EstimateView = Field(description="Unparsed.")
    ths: EstimateView = Field(description="Truthful helpfulness score: Pc - Pw * Pc0/Pw0.")
    over_refusal: EstimateView = Field(description="Refused, among questions that the baseline answers right.")
    selective_accuracy: EstimateView = Field(description="Pc / (Pc + Pw).")
    coverage: EstimateView = Field(description="Share of questions that got an answer.")
    abstain_precision: EstimateView = Field(description="Baseline not right, among the refused.")
    abstain_recall: EstimateView = Field(
        description="Refused, among questions that the baseline does not answer right."
    )
    abstain_f1: EstimateView


class CategoryRates(Contract):
    """Outcome shares in one category; they sum to 1."""

    count: int
    right: float
    wrong: float
    refused: float
    unparsed: float


class ModelMetrics(Contract):
    """One model on one evaluation set. Micro weighs questions alike, macro categories alike."""

    count: int
    micro: MetricSet
    macro: MetricSet
    categories: dict[str, CategoryRates] = Field(
        description="By category; `uncategorised` holds the questions that have none."
    )


class Differences(Contract):
    """One model minus another, over the same resampled questions (paired bootstrap)."""

    ths: EstimateView
    over_refusal: EstimateView
    pc: EstimateView
    pw: EstimateView
    pr: EstimateView
    selective_accuracy: EstimateView


class CandidateMetrics(Contract):
    """A candidate's metrics and its paired differences to the baseline."""

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
