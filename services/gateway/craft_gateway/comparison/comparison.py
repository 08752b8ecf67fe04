"""Jobs side by side: what was asked differently, what came out, and how sure each difference is."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from craft.contracts.documents.evaluation import INITIAL_BASIC, EvaluationDocument
from craft.contracts.public.comparison import ComparedJob, ComparedSet, ComparedStrategy, JobComparison
from craft.contracts.stages.names import HELD_OUT, evaluate_stage
from craft.contracts.stages.rows import EVALUATION_FILE, OUTCOMES_FILE, OutcomeRow
from craft.core.evaluated import Evaluated
from craft.core.strategies import Strategy
from craft.errors import NotFound, RequestInvalid
from craft.infra.storage.artifacts import ArtifactStore, read_rows
from craft_gateway.access.owners import no_job
from craft_gateway.comparison.differences import (
    Candidate,
    ComparableJob,
    differences,
    differing,
    questions_digest,
    why_not,
)
from craft_gateway.job_views.queries import find_job, stages_of
from craft_gateway.plan.stages import ResolvedJob
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Stage

MOST_JOBS = 10
_MOST_BYTES = 1 << 28
_TOO_MUCH = f"The judged replies of these jobs are more than {_MOST_BYTES >> 20} MiB: compare fewer jobs at once."


class Comparisons:
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
            parameters=list(differing(found)),
            sets=list(self._sets(found)),
        )

    def _found(self, job_id: str, team: str | None) -> ComparableJob:
        with self._database.read() as session:
            job = find_job(session, job_id)
            if team is not None and job.team != team:
                raise no_job()
            stages: Sequence[Stage] = stages_of(session, [job_id])[job_id]
        made = {stage.name: stage.artifact for stage in stages if stage.artifact is not None}
        return ComparableJob(job, ResolvedJob.model_validate(job.resolved), made)

    def _documents(self, found: ComparableJob) -> dict[Strategy, EvaluationDocument | str]:
        """Each strategy's metrics, or why there are none."""
        documents: dict[Strategy, EvaluationDocument | str] = {}
        for strategy in found.resolved.spec.strategies:
            ref = found.artifacts.get(evaluate_stage(strategy))
            if ref is None:
                documents[strategy] = f"The job is {found.job.status.value}; {evaluate_stage(strategy)} is not done."
                continue
            try:
                text = (self._store.open(ref) / EVALUATION_FILE).read_bytes()
            except (NotFound, FileNotFoundError):
                documents[strategy] = "Its evaluation has expired."
                continue
            documents[strategy] = EvaluationDocument.model_validate_json(text)
        return documents

    def _sets(self, found: Sequence[ComparableJob]) -> Iterator[ComparedSet]:
        """Every evaluation set of any job; sets are the same where their questions' digest is."""
        too_much = sum(self._size(each) for each in found) > _MOST_BYTES
        candidates = {} if too_much else {each.job.id: list(self._candidates(each)) for each in found}
        names = dict.fromkeys(name for each in found for name in (HELD_OUT, *each.resolved.evaluation))
        for name in names:
            by_digest: dict[str, list[ComparableJob]] = {}
            for each in found:
                if (digest := questions_digest(each, name)) is not None:
                    by_digest.setdefault(digest, []).append(each)
            having = [each.job.id for jobs in by_digest.values() for each in jobs]
            reason = _TOO_MUCH if too_much else why_not(found, by_digest, name)
            paired = [
                difference
                for jobs in by_digest.values()
                for difference in differences([candidates.get(each.job.id, []) for each in jobs], name)
            ]
            yield ComparedSet(name=name, jobs=having, same=reason is None, reason=reason, differences=paired)

    def _files(self, found: ComparableJob) -> Iterator[tuple[Strategy, Path]]:
        """The judged replies of each strategy that still has them."""
        for strategy in found.resolved.spec.strategies:
            ref = found.artifacts.get(evaluate_stage(strategy))
            with suppress(NotFound):
                if ref is not None and (file := self._store.open(ref) / OUTCOMES_FILE).is_file():
                    yield strategy, file

    def _size(self, found: ComparableJob) -> int:
        return sum(file.stat().st_size for _, file in self._files(found))

    def _candidates(self, found: ComparableJob) -> Iterator[Candidate]:
        for strategy, file in self._files(found):
            by_set: dict[str, dict[str, list[Evaluated]]] = {}
            for row in read_rows(file, OutcomeRow):
                of_model = by_set.setdefault(row.set, {}).setdefault(row.model, [])
                of_model.append(Evaluated(row.id, row.outcome, row.category))
            for name, models in by_set.items():
                own, baseline = models.get(strategy.value, []), models.get(INITIAL_BASIC, [])
                yield Candidate(found.job.id, strategy, name, own, baseline)


def _check(ids: Sequence[str]) -> None:
    if not 2 <= len(ids) <= MOST_JOBS:
        told = f"{len(ids)} {'job' if len(ids) == 1 else 'jobs'} cannot be compared."
        raise RequestInvalid(told, hint=f"Name 2 to {MOST_JOBS}: ?ids=cjob_…,cjob_….", param="ids")
    if len(set(ids)) != len(ids):
        raise RequestInvalid("A job is named twice.", hint="Name each once.", param="ids")


def _compared(found: ComparableJob, documents: Mapping[Strategy, EvaluationDocument | str]) -> ComparedJob:
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
