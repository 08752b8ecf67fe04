"""Compares jobs: their parameters, their metrics, and the differences of metrics with their intervals."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from craft.contracts.documents.evaluation import INITIAL_BASIC, EvaluationDocument
from craft.contracts.public.comparison import ComparedJob, ComparedSet, ComparedStrategy, JobComparison
from craft.contracts.stages.names import HELD_OUT, evaluate_stage
from craft.contracts.stages.rows import EVALUATION_FILE, OUTCOMES_FILE, OutcomeRow
from craft.core.evaluated import Evaluated
from craft.core.strategies import Strategy
from craft.errors import ArtifactDamaged, NotFound, RequestInvalid
from craft.infra.storage.artifacts import ArtifactStore, read_rows
from craft_gateway.access.owners import no_job
from craft_gateway.comparison.differences import (
    Candidate,
    ComparableJob,
    differences,
    differing_parameters,
    questions_digest,
    reason_against,
)
from craft_gateway.job_views.queries import find_job, stages_of
from craft_gateway.job_views.stored_results import StoredResults
from craft_gateway.plan.stages import ResolvedJob
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Stage

MAX_JOBS = 10
_MAX_BYTES = 1 << 28
_TOO_MUCH = f"The judged replies of these jobs are more than {_MAX_BYTES >> 20} MiB: compare fewer jobs at once."


class Comparisons:
    """Compares jobs."""

    def __init__(self, database: Database, store: ArtifactStore) -> None:
        self._database = database
        self._results = StoredResults(database, store)

    def compare(self, ids: Sequence[str], *, team: str | None) -> JobComparison:
        """Compare two to ten jobs, in the given order. `team` None allows the jobs of all teams.

        Raises RequestInvalid for too few, too many or repeated ids, NotFound if one is no job of the team.
        """
        _check(ids)
        jobs = [self._load(job_id, team) for job_id in ids]
        documents = [self._documents(job) for job in jobs]
        return JobComparison(
            jobs=[_compared(job, of_job) for job, of_job in zip(jobs, documents, strict=True)],
            parameters=list(differing_parameters(jobs)),
            sets=list(self._sets(jobs)),
        )

    def _load(self, job_id: str, team: str | None) -> ComparableJob:
        with self._database.read() as session:
            job = find_job(session, job_id)
            if team is not None and job.team != team:
                raise no_job()
            stages: Sequence[Stage] = stages_of(session, [job_id])[job_id]
        artifacts = {stage.name: stage.artifact for stage in stages if stage.artifact is not None}
        return ComparableJob(job, ResolvedJob.model_validate(job.resolved), artifacts)

    def _documents(self, compared: ComparableJob) -> dict[Strategy, EvaluationDocument | str]:
        """Return each strategy's evaluation, or the reason why it is missing."""
        documents: dict[Strategy, EvaluationDocument | str] = {}
        for strategy in compared.resolved.spec.strategies:
            stage = evaluate_stage(strategy)
            ref = compared.artifacts.get(stage)
            if ref is None:
                documents[strategy] = f"The job is {compared.job.status.value}; {stage} is not done."
                continue
            try:
                text = (self._results.folder(compared.job.id, stage, ref) / EVALUATION_FILE).read_bytes()
            except (NotFound, FileNotFoundError):
                documents[strategy] = "Its evaluation has expired."
                continue
            except ArtifactDamaged:
                documents[strategy] = f"Its stored evaluation is damaged: retry the job from the stage {stage}."
                continue
            documents[strategy] = EvaluationDocument.model_validate_json(text)
        return documents

    def _sets(self, jobs: Sequence[ComparableJob]) -> Iterator[ComparedSet]:
        """Yield every evaluation set of any job. Sets of one name are the same where their questions' digests are."""
        too_much = sum(self._size(job) for job in jobs) > _MAX_BYTES
        candidates = {} if too_much else {compared.job.id: list(self._candidates(compared)) for compared in jobs}
        names = dict.fromkeys(name for compared in jobs for name in (HELD_OUT, *compared.resolved.evaluation))
        for name in names:
            by_digest: dict[str, list[ComparableJob]] = {}
            for compared in jobs:
                if (digest := questions_digest(compared, name)) is not None:
                    by_digest.setdefault(digest, []).append(compared)
            with_set = [compared.job.id for same in by_digest.values() for compared in same]
            reason = _TOO_MUCH if too_much else reason_against(jobs, by_digest, name)
            paired = [
                difference
                for same in by_digest.values()
                for difference in differences([candidates.get(compared.job.id, []) for compared in same], name)
            ]
            yield ComparedSet(name=name, jobs=with_set, same=reason is None, reason=reason, differences=paired)

    def _files(self, compared: ComparableJob) -> Iterator[tuple[Strategy, Path]]:
        """Yield the file of judged replies of each strategy that still has one."""
        for strategy in compared.resolved.spec.strategies:
            stage = evaluate_stage(strategy)
            ref = compared.artifacts.get(stage)
            if ref is None:
                continue
            with suppress(NotFound, ArtifactDamaged):
                if (file := self._results.folder(compared.job.id, stage, ref) / OUTCOMES_FILE).is_file():
                    yield strategy, file

    def _size(self, compared: ComparableJob) -> int:
        return sum(file.stat().st_size for _, file in self._files(compared))

    def _candidates(self, compared: ComparableJob) -> Iterator[Candidate]:
        for strategy, file in self._files(compared):
            by_set: dict[str, dict[str, list[Evaluated]]] = {}
            for row in read_rows(file, OutcomeRow):
                of_model = by_set.setdefault(row.set, {}).setdefault(row.model, [])
                of_model.append(Evaluated(row.id, row.outcome, row.category))
            for name, models in by_set.items():
                own, baseline = models.get(strategy.value, []), models.get(INITIAL_BASIC, [])
                yield Candidate(compared.job.id, strategy, name, own, baseline)


def _check(ids: Sequence[str]) -> None:
    if not 2 <= len(ids) <= MAX_JOBS:
        message = f"{len(ids)} {'job' if len(ids) == 1 else 'jobs'} cannot be compared."
        raise RequestInvalid(message, hint=f"Name 2 to {MAX_JOBS}: ?ids=cjob_…,cjob_….", param="ids")
    if len(set(ids)) != len(ids):
        raise RequestInvalid("A job is named twice.", hint="Name each job once.", param="ids")


def _compared(compared: ComparableJob, documents: Mapping[Strategy, EvaluationDocument | str]) -> ComparedJob:
    job = compared.job
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
                strategy=strategy,
                metrics={name: evaluated.candidate.micro for name, evaluated in document.sets.items()},
            )
            for strategy, document in documents.items()
        ],
    )
