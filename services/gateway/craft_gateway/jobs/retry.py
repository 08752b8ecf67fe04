"""Retrying an ended job as a new one."""

from collections.abc import Sequence
from contextlib import suppress

from craft.contracts.spec.jobs import JobStatus, RetryRequest
from craft.contracts.stages.parameters import EngineRef, TrainerRef
from craft.errors import Conflict, ModelNotFound, ModelRejected, NotFound, RequestInvalid
from craft.infra.device.deployment import engine_again, trainer_again
from craft.infra.models.folders import ModelFolders
from craft_gateway.datasets.registry import DatasetRegistry
from craft_gateway.estimates.estimator import Estimator, SizedJob
from craft_gateway.job_views.reader import JobReader
from craft_gateway.jobs.submission import row_tokens, sized_job
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.lifecycle.creation import CreatedJob, Idempotency, Origin
from craft_gateway.plan.stages import PlannedStage, ResolvedJob, plan
from craft_gateway.store.tables import Job


class Retries:
    """Queues new jobs that do ended ones again."""

    def __init__(
        self,
        *,
        reader: JobReader,
        control: JobControl,
        datasets: DatasetRegistry,
        estimator: Estimator,
        models: ModelFolders,
        engine: EngineRef,
        trainer: TrainerRef,
    ) -> None:
        """`engine` and `trainer` are those of the deployment as it is."""
        self._engine = engine
        self._trainer = trainer
        self._reader = reader
        self._control = control
        self._datasets = datasets
        self._estimator = estimator
        self._models = models

    def retry(
        self,
        job_id: str,
        request: RetryRequest,
        *,
        idempotency_key: str | None,
        actor: str | None = None,
        traceparent: str | None = None,
    ) -> CreatedJob:
        """Queue a new job that does an ended one again. Finished stages are used again, up to `from_stage`.

        Where workers would refuse its stages because the deployment has changed since, it is planned for what there is.
        Raises NotFound, Conflict if the job goes on or has nothing to do again, RequestInvalid for an unknown stage,
        IdempotencyConflict.
        """
        job = self._reader.row(job_id)
        idempotency = Idempotency.of(idempotency_key, job.team, f"retry {job_id} {request.from_stage}")
        if earlier := self._control.earlier_job(idempotency):
            return earlier
        _check_ended(job, request)
        resolved = self._for_today(ResolvedJob.model_validate(job.resolved))
        again = frozenset() if request.from_stage is None else _from(request.from_stage, plan(resolved))
        origin = Origin(job.team, actor, traceparent, retry_of=job.id, recompute=again)
        sized = self._sized_again(resolved, job.team, again)
        return self._control.create_job(
            resolved,
            reused=sized.reused if sized else None,
            origin=origin,
            idempotency=idempotency,
            estimate=self._estimator.estimate(sized) if sized else None,
        )

    def _for_today(self, resolved: ResolvedJob) -> ResolvedJob:
        engine = engine_again(resolved.engine, self._engine)
        return resolved.model_copy(update={"engine": engine, "trainer": trainer_again(resolved.trainer, self._trainer)})

    def _sized_again(self, resolved: ResolvedJob, team: str, again: frozenset[str]) -> SizedJob | None:
        """None if a dataset was deleted since: nothing else knows its size."""
        spec = resolved.spec
        folder = None
        with suppress(ModelNotFound, ModelRejected):
            folder = self._models.find(resolved.model.id, resolved.model.revision).path
        try:
            dataset = self._datasets.row(spec.dataset.id or "")
            further = [self._datasets.row(wanted.dataset) for wanted in spec.evaluation]
        except NotFound:
            return None
        sizes = {name: each.rows for name, each in zip(resolved.evaluation, further, strict=True)}
        return sized_job(
            self._control,
            resolved,
            team,
            questions=dataset.rows,
            evaluation=sizes,
            model_folder=folder,
            tokens=row_tokens([dataset, *further]),
            recompute=again,
        )


def _check_ended(job: Job, request: RetryRequest) -> None:
    if not job.status.terminal:
        raise Conflict(
            f"The job is {job.status.value}; only one that has ended can be done again.",
            hint="Wait for its end, or cancel it first.",
        )
    if job.status is JobStatus.SUCCEEDED and request.from_stage is None:
        raise Conflict("The job has succeeded.", hint="Name in `from_stage` where to compute again.")


def _from(first: str, stages: Sequence[PlannedStage]) -> frozenset[str]:
    """The stage and all that depend on it. Raises RequestInvalid if the plan has no such stage."""
    names = [stage.name for stage in stages]
    if first not in names:
        raise RequestInvalid(
            f"The job has no stage {first}.", hint=f"Its stages are {', '.join(names)}.", param="from_stage"
        )
    found = {first}
    for stage in stages:
        if found.intersection(stage.depends_on):
            found.add(stage.name)
    return frozenset(found)
