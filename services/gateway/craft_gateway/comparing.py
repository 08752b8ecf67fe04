"""Jobs side by side: what was asked differently, what came out, and how sure each difference is."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path

from craft.contracts.comparing import (
    ComparedJob,
    ComparedSet,
    ComparedStrategy,
    DifferingParameter,
    JobComparison,
    PairedDifference,
)
from craft.contracts.rest_scoring import HELD_OUT, Differences, EstimateView, EvaluationDocument
from craft.contracts.rows import EVALUATION_FILE, OUTCOMES_FILE, OutcomeRow
from craft.contracts.stages import ArtifactRef, StageKind
from craft.core.evaluated import Evaluated
from craft.core.metric_formulas import Metric
from craft.core.metrics import DEFAULT_RESAMPLES, Estimate, paired_difference
from craft.core.selection import Strategy
from craft.errors import NotFound, RequestInvalid
from craft.infra.artifacts import ArtifactStore, read_rows
from craft_gateway.database import Database
from craft_gateway.missing import no_job
from craft_gateway.plan import ResolvedJob
from craft_gateway.publishing_package import flattened
from craft_gateway.tables import Job, Stage
from craft_gateway.views_rows import find_job, stages_of

MOST_JOBS = 10
_MOST_BYTES = 1 << 28
_TOO_MUCH = f"The judged replies of these jobs are more than {_MOST_BYTES >> 20} MiB: compare fewer jobs at once."
_OF_THE_BASELINE = frozenset({Metric.THS, Metric.OVER_REFUSAL})
"""Metrics whose scale is the baseline's."""
_SEED = 42
_BASELINE = "initial_basic"


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A strategy of a job on one evaluation set, with M0's outcomes beside its own."""

    job_id: str
    strategy: Strategy
    set: str
    rows: Sequence[Evaluated]
    baseline: Sequence[Evaluated]


@dataclass(frozen=True, slots=True)
class _Found:
    job: Job
    resolved: ResolvedJob
    artifacts: Mapping[str, ArtifactRef]
    """By stage name, of stages that have one."""


class Comparing:
    """Compares jobs of one team."""

    def __init__(self, database: Database, store: ArtifactStore) -> None:
        self._database = database
        self._store = store

    def compare(self, ids: Sequence[str], *, team: str | None) -> JobComparison:
        """Two to ten jobs in the order given. `team` None may see everybody's.

        Raises RequestInvalid for too few, too many or doubled ids, NotFound where one is no job of the team's.
        """
        _check(ids)
        found = [self._found(job_id, team) for job_id in ids]
        documents = [self._documents(each) for each in found]
        return JobComparison(
            jobs=[_compared(each, of_job) for each, of_job in zip(found, documents, strict=True)],
            parameters=list(_differing(found)),
            sets=list(self._sets(found)),
        )

    def _found(self, job_id: str, team: str | None) -> _Found:
        with self._database.read() as session:
            job = find_job(session, job_id)
            if team is not None and job.team != team:
                raise no_job()
            stages: Sequence[Stage] = stages_of(session, [job_id])[job_id]
        made = {stage.name: stage.artifact for stage in stages if stage.artifact is not None}
        return _Found(job, ResolvedJob.model_validate(job.resolved), made)

    def _documents(self, found: _Found) -> dict[Strategy, EvaluationDocument | str]:
        """Each strategy's metrics, or why there are none."""
        documents: dict[Strategy, EvaluationDocument | str] = {}
        for strategy in found.resolved.spec.strategies:
            ref = found.artifacts.get(_evaluate(strategy.value))
            if ref is None:
                documents[strategy] = f"The job is {found.job.status.value}; {_evaluate(strategy.value)} is not done."
                continue
            try:
                text = (self._store.open(ref) / EVALUATION_FILE).read_bytes()
            except (NotFound, FileNotFoundError):
                documents[strategy] = "Its evaluation has expired."
                continue
            documents[strategy] = EvaluationDocument.model_validate_json(text)
        return documents

    def _sets(self, found: Sequence[_Found]) -> Iterator[ComparedSet]:
        """Every evaluation set of any job; sets are the same where their questions' digest is."""
        too_much = sum(self._size(each) for each in found) > _MOST_BYTES
        candidates = {} if too_much else {each.job.id: list(self._candidates(each)) for each in found}
        names = dict.fromkeys(name for each in found for name in (HELD_OUT, *each.resolved.evaluation))
        for name in names:
            by_digest: dict[str, list[_Found]] = {}
            for each in found:
                if (digest := _digest(each, name)) is not None:
                    by_digest.setdefault(digest, []).append(each)
            having = [each.job.id for jobs in by_digest.values() for each in jobs]
            reason = _TOO_MUCH if too_much else _why_not(found, by_digest, name)
            pairs = [
                _difference(second, first)
                for jobs in by_digest.values()
                for first, second in _pairs([candidates.get(each.job.id, []) for each in jobs], name)
            ]
            yield ComparedSet(name=name, jobs=having, same=reason is None, reason=reason, differences=pairs)

    def _files(self, found: _Found) -> Iterator[tuple[Strategy, Path]]:
        """The judged replies of each strategy that still has them."""
        for strategy in found.resolved.spec.strategies:
            ref = found.artifacts.get(_evaluate(strategy.value))
            with suppress(NotFound):
                if ref is not None and (file := self._store.open(ref) / OUTCOMES_FILE).is_file():
                    yield strategy, file

    def _size(self, found: _Found) -> int:
        return sum(file.stat().st_size for _, file in self._files(found))

    def _candidates(self, found: _Found) -> Iterator[_Candidate]:
        for strategy, file in self._files(found):
            by_set: dict[str, dict[str, list[Evaluated]]] = {}
            for row in read_rows(file, OutcomeRow):
                of_model = by_set.setdefault(row.set, {}).setdefault(row.model, [])
                of_model.append(Evaluated(row.id, row.outcome, row.category))
            for name, models in by_set.items():
                own, baseline = models.get(strategy.value, []), models.get(_BASELINE, [])
                yield _Candidate(found.job.id, strategy, name, own, baseline)


def _check(ids: Sequence[str]) -> None:
    if not 2 <= len(ids) <= MOST_JOBS:
        raise RequestInvalid(
            f"{len(ids)} jobs cannot be compared.", hint=f"Name 2 to {MOST_JOBS}: ?ids=cjob_…,cjob_….", param="ids"
        )
    if len(set(ids)) != len(ids):
        raise RequestInvalid("A job is named twice.", hint="Name each once.", param="ids")


def _evaluate(strategy: str) -> str:
    return f"{StageKind.EVALUATE.value}:{strategy}"


def _digest(found: _Found, name: str) -> str | None:
    """Of the artifact that holds the set's questions; None where the job has no such set, or not as yet."""
    ref = found.artifacts.get("ingest" if name == HELD_OUT else f"ingest:{name}")
    return None if ref is None else ref.digest


def _why_not(found: Sequence[_Found], by_digest: Mapping[str, Sequence[_Found]], name: str) -> str | None:
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
        if not any(_evaluate(strategy.value) in each.artifacts for strategy in each.resolved.spec.strategies)
    ]
    return f"{', '.join(waiting)} has evaluated nothing as yet." if waiting else None


def _pairs(jobs: Sequence[Sequence[_Candidate]], name: str) -> Iterator[tuple[_Candidate, _Candidate]]:
    """Every candidate of a job with every one of a later job, on the set of that name."""
    for earlier, later in combinations(jobs, 2):
        of_set = [[each for each in side if each.set == name] for side in (earlier, later)]
        yield from product(*of_set)


def _difference(model: _Candidate, against: _Candidate) -> PairedDifference:
    one_baseline = _outcomes(model.baseline) == _outcomes(against.baseline)

    def view(metric: str) -> EstimateView:
        if not one_baseline and metric in _OF_THE_BASELINE:
            return EstimateView(value=None, reason="it is measured on each base model's own scale, and these differ")
        found = paired_difference(
            model.rows, against.rows, model.baseline, metric=metric, resamples=DEFAULT_RESAMPLES, seed=_SEED
        )
        return _view(found)

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


def _view(found: Estimate) -> EstimateView:
    low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
    return EstimateView(value=found.value, low=low, high=high, reason=found.reason)


def _differing(found: Sequence[_Found]) -> Iterator[DifferingParameter]:
    """Every parameter that is not the same in all jobs; None stands for one that a job lacks."""
    sides = [_parameters(each) for each in found]
    for path in sorted({path for side in sides for path in side}):
        values = [side.get(path) for side in sides]
        if len(set(values)) > 1:
            yield DifferingParameter(path=path, values=values)


def _parameters(found: _Found) -> dict[str, str]:
    spec = found.resolved.spec.model_dump(
        mode="json", exclude={"name": True, "labels": True, "priority": True, "dataset": {"rows"}}
    )
    further = found.resolved.model_dump(mode="json", include={"model", "engine", "trainer", "embedder"})
    return dict(flattened(spec | further))


def _compared(found: _Found, documents: Mapping[Strategy, EvaluationDocument | str]) -> ComparedJob:
    job = found.job
    seconds = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None
    return ComparedJob(
        id=job.id,
        name=job.name,
        status=job.status,
        created_at=job.created_at,
        seconds=seconds,
        strategies=[
            ComparedStrategy(strategy=strategy, reason=document)
            if isinstance(document, str)
            else ComparedStrategy(
                strategy=strategy, metrics={name: each.candidate.micro for name, each in document.sets.items()}
            )
            for strategy, document in documents.items()
        ],
    )
