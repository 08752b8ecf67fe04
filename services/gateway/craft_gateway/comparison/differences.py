"""Computes differences between jobs: of their parameters, and of their metrics where they share their questions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from craft.contracts.documents.evaluation import Differences, EstimateView
from craft.contracts.public.comparison import DifferingParameter, PairedDifference
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.names import evaluate_stage, ingest_stage
from craft.core.evaluated import Evaluated
from craft.core.metric_formulas import Metric
from craft.core.metrics import DEFAULT_RESAMPLES, paired_difference
from craft.core.strategies import Strategy
from craft_gateway.plan.parameters import resolved_parameters
from craft_gateway.plan.stages import ResolvedJob
from craft_gateway.store.tables import Job

_BASELINE_METRICS = frozenset({Metric.THS, Metric.OVER_REFUSAL})
"""Metrics that are measured on the scale of the baseline."""
_SEED = 42


@dataclass(frozen=True, slots=True)
class Candidate:
    """A strategy of a job on one evaluation set: its outcomes, and those of M0 as its baseline."""

    job_id: str
    strategy: Strategy
    set: str
    rows: Sequence[Evaluated]
    baseline: Sequence[Evaluated]


@dataclass(frozen=True, slots=True)
class ComparableJob:
    """A job to compare, with its resolved specification and its artifacts."""

    job: Job
    resolved: ResolvedJob
    artifacts: Mapping[str, ArtifactRef]
    """By the name of the stage."""


def questions_digest(compared: ComparableJob, name: str) -> str | None:
    """Return the digest of the artifact with the set's questions; None if the job does not have it yet."""
    ref = compared.artifacts.get(ingest_stage(name))
    return None if ref is None else ref.digest


def reason_against(
    jobs: Sequence[ComparableJob], by_digest: Mapping[str, Sequence[ComparableJob]], name: str
) -> str | None:
    """Return the reason why some of the jobs cannot be compared on this set; None if all can."""
    if len(by_digest) > 1:
        return (
            f"The questions of {name} are not the same (other rows, split or seed), so that differences between these "
            "jobs say nothing about the models."
        )
    with_set = {compared.job.id for same in by_digest.values() for compared in same}
    without_set = [compared.job.id for compared in jobs if compared.job.id not in with_set]
    if without_set:
        return f"{', '.join(without_set)} has no set {name}, or not yet."
    unevaluated = [
        compared.job.id
        for compared in jobs
        if not any(evaluate_stage(strategy) in compared.artifacts for strategy in compared.resolved.spec.strategies)
    ]
    return f"{', '.join(unevaluated)} has evaluated nothing yet." if unevaluated else None


def differences(jobs: Sequence[Sequence[Candidate]], name: str) -> Iterator[PairedDifference]:
    """Yield the difference of every candidate from every candidate of each earlier job, on the set of that name."""
    for earlier, later in combinations(jobs, 2):
        of_set = [[candidate for candidate in side if candidate.set == name] for side in (earlier, later)]
        for first, second in product(*of_set):
            yield _difference(second, first)


def _difference(model: Candidate, against: Candidate) -> PairedDifference:
    same_baseline = _outcomes(model.baseline) == _outcomes(against.baseline)

    def view(metric: str) -> EstimateView:
        if not same_baseline and metric in _BASELINE_METRICS:
            return EstimateView(value=None, reason="it is measured on each base model's own scale, and these differ")
        difference = paired_difference(
            model.rows, against.rows, model.baseline, metric=metric, resamples=DEFAULT_RESAMPLES, seed=_SEED
        )
        return EstimateView.of(difference)

    return PairedDifference(
        job=model.job_id,
        strategy=model.strategy,
        against_job=against.job_id,
        against_strategy=against.strategy,
        questions=len(model.rows),
        differences=Differences(**{metric: view(metric) for metric in Differences.model_fields}),
    )


def _outcomes(rows: Sequence[Evaluated]) -> dict[str, str]:
    return {row.id: row.outcome.value for row in rows}


def differing_parameters(jobs: Sequence[ComparableJob]) -> Iterator[DifferingParameter]:
    """Yield every parameter that is not the same in all jobs; its value is None for a job that lacks it."""
    of_jobs = [resolved_parameters(compared.resolved) for compared in jobs]
    for path in sorted({path for parameters in of_jobs for path in parameters}):
        values = [parameters.get(path) for parameters in of_jobs]
        if len(set(values)) > 1:
            yield DifferingParameter(path=path, values=values)
