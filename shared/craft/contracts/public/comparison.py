"""`GET /craft/jobs/compare`: the comparison of several jobs."""

from typing import Literal

from pydantic import Field

from craft.contracts.base import Contract, Moment
from craft.contracts.documents.evaluation import Differences, MetricSet
from craft.contracts.spec.jobs import JobStatus
from craft.core.strategies import Strategy


class ComparedStrategy(Contract):
    """One adapter of a job: its metrics on each evaluation set, with equal weights of questions."""

    strategy: Strategy
    metrics: dict[str, MetricSet] = Field(default_factory=dict, description="By evaluation set.")
    reason: str | None = Field(None, description="The reason for missing metrics.")


class ComparedJob(Contract):
    """One of the compared jobs."""

    id: str
    name: str | None
    status: JobStatus
    created_at: Moment
    seconds: float | None = Field(description="From its start to its end; null before its end.")
    strategies: list[ComparedStrategy]


class DifferingParameter(Contract):
    """A parameter with different values in the jobs."""

    path: str = Field(examples=["training.lora_r"])
    values: list[str | None] = Field(description="In the jobs' order; null where a job has no such parameter.")


class PairedDifference(Contract):
    """The metrics of one model minus those of another, on the same questions, with bootstrap 95 % intervals."""

    job: str
    strategy: Strategy
    against_job: str
    against_strategy: Strategy
    questions: int
    differences: Differences


class ComparedSet(Contract):
    """An evaluation set. `same`: all jobs have it with exactly the same questions."""

    name: str
    jobs: list[str] = Field(description="The jobs that have a set of this name.")
    same: bool
    reason: str | None = Field(description="The reason why some jobs cannot be compared on this set.")
    differences: list[PairedDifference] = Field(
        description="Each strategy of a job minus each strategy of an earlier named job with the same questions."
    )


class JobComparison(Contract):
    """The comparison of two to ten jobs, in the order of the request."""

    object: Literal["craft.comparison"] = "craft.comparison"
    jobs: list[ComparedJob]
    parameters: list[DifferingParameter] = Field(
        description="Only differing parameters; names, labels and priorities do not count."
    )
    sets: list[ComparedSet]
