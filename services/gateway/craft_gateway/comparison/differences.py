"""Differences between jobs: in their parameters, and, where they share their questions, in their metrics."""

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

_OF_THE_BASELINE = frozenset({Metric.THS, Metric.OVER_REFUSAL})
"""Metrics whose scale is the baseline's."""
_SEED = 42


@dataclass(frozen=True, slots=True)
class Candidate:
    """A strategy of a job on one evaluation set, with M0's outcomes beside its own."""

    job_id: str
    strategy: Strategy
    set: str
    rows: Sequence[Evaluated]
    baseline: Sequence[Evaluated]


@dataclass(frozen=True, slots=True)
class ComparableJob:
    """What is stored of a job that is compared."""

    job: Job
    resolved: ResolvedJob
    artifacts: Mapping[str, ArtifactRef]
    """By stage name, of stages that have one."""


def questions_digest(found: ComparableJob, name: str) -> str | None:
    """The digest of the artifact that holds the set's questions; None where the job has no such artifact yet."""
    ref = found.artifacts.get(ingest_stage(name))
    return None if ref is None else ref.digest


def why_not(found: Sequence[ComparableJob], by_digest: Mapping[str, Sequence[ComparableJob]], name: str) -> str | None:
    """Why not all of the jobs can be compared on this set; None where they can."""
    if len(by_digest) > 1:
        return (
            f"The questions of {name} are not the same (other rows, split or seed), so that differences between these "
            "jobs say nothing about the models."
        )
    having = {each.job.id for jobs in by_digest.values() for each in jobs}
    lacking = [each.job.id for each in found if each.job.id not in having]
    if lacking:
        return f"{', '.join(lacking)} has no set {name}, or not as yet."
    waiting = [
        each.job.id
        for each in found
        if not any(evaluate_stage(strategy) in each.artifacts for strategy in each.resolved.spec.strategies)
    ]
    return f"{', '.join(waiting)} has evaluated nothing as yet." if waiting else None


def differences(jobs: Sequence[Sequence[Candidate]], name: str) -> Iterator[PairedDifference]:
    """Of every candidate of a job from every one of each job before it, on the set of that name."""
    for earlier, later in combinations(jobs, 2):
        of_set = [[each for each in side if each.set == name] for side in (earlier, later)]
        for first, second in product(*of_set):
            yield _difference(second, first)


def _difference(model: Candidate, against: Candidate) -> PairedDifference:
    one_baseline = _outcomes(model.baseline) == _outcomes(against.baseline)

    def view(metric: str) -> EstimateView:
        if not one_baseline and metric in _OF_THE_BASELINE:
            return EstimateView(value=None, reason="it is measured on each base model's own scale, and these differ")
        found = paired_difference(
            model.rows, against.rows, model.baseline, metric=metric, resamples=DEFAULT_RESAMPLES, seed=_SEED
        )
        return EstimateView.of(found)

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


def differing(found: Sequence[ComparableJob]) -> Iterator[DifferingParameter]:
    """Every parameter that is not the same in all jobs; None stands for one that a job lacks."""
    sides = [resolved_parameters(each.resolved) for each in found]
    for path in sorted({path for side in sides for path in side}):
        values = [side.get(path) for side in sides]
        if len(set(values)) > 1:
            yield DifferingParameter(path=path, values=values)
