"""`GET /craft/jobs/compare`: jobs side by side."""

from typing import Literal

from pydantic import Field

from craft.contracts.base import Contract, Moment
from craft.contracts.documents.evaluation import Differences, MetricSet
from craft.contracts.spec.jobs import JobStatus
from craft.core.strategies import Strategy


class ComparedStrategy(Contract):
    """One adapter of a job: its metrics on each evaluation set, each question weighing the same."""

    strategy: Strategy
    metrics: dict[str, MetricSet] = Field(default_factory=dict, description="By evaluation set.")
    reason: str | None = Field(None, description="Why there are no metrics.")


class ComparedJob(Contract):
    """One of the jobs."""

    id: str
    name: str | None
    status: JobStatus
    created_at: Moment
    seconds: float | None = Field(description="From its start to its end; null while it has none.")
    strategies: list[ComparedStrategy]


class DifferingParameter(Contract):
    """A parameter that the jobs do not share."""

    path: str = Field(examples=["training.lora_r"])
    values: list[str | None] = Field(description="In the jobs' order; null where a job has no such parameter.")


class PairedDifference(Contract):
    """A model minus another on the same questions, with bootstrap 95 % intervals over these questions."""

    job: str
    strategy: Strategy
    against_job: str
    against_strategy: Strategy
    questions: int
    differences: Differences


class ComparedSet(Contract):
    """An evaluation set. `same`: all jobs have it with the very same questions."""

    name: str
    jobs: list[str] = Field(description="Those that have a set of that name.")
    same: bool
    reason: str | None = Field(description="Why not all of the jobs can be compared on it.")
    differences: list[PairedDifference] = Field(
        description="Each strategy of a job minus each of an earlier named job that has the same questions."
    )


class JobComparison(Contract):
    """Two to ten jobs side by side, in the order in which they were named."""

    object: Literal["craft.comparison"] = "craft.comparison"
    jobs: list[ComparedJob]
    parameters: list[DifferingParameter] = Field(description="Only what differs; names, labels and priorities do not.")
    sets: list[ComparedSet]
