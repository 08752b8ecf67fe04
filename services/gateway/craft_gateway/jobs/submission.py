"""From what a user asks for to a job that can run: names are looked up and everything knowable is checked first."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from craft.contracts.documents.evaluation import HELD_OUT
from craft.contracts.public.jobs import PlannedStageView, ValidationView
from craft.contracts.services.datasets import Reading
from craft.contracts.spec.jobs import DatasetRef, JobSpec, RetryRequest
from craft.contracts.stages.parameters import EngineRef, TrainerRef
from craft.errors import IdempotencyConflict, ModelNotFound, ModelRejected, NotFound, RequestInvalid
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.inference import VllmSettings
from craft_gateway.datasets.registry import DatasetRegistry
from craft_gateway.estimates.bounds import memory_check
from craft_gateway.estimates.estimator import Estimator, SizedJob
from craft_gateway.job_views.reader import JobReader
from craft_gateway.job_views.views import resolved_view
from craft_gateway.jobs.checks import (
    check_lengths,
    check_servable,
    check_sizes,
    check_target_modules,
    check_tokenizer,
    check_wording,
    checked_shots,
    passed_checks,
)
from craft_gateway.jobs.retry import _check_ended, _from
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.lifecycle.creation import NO_ORIGIN, CreatedJob, Idempotency, NewJob, Origin, earlier_jobs
from craft_gateway.plan.stages import ResolvedJob, plan
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Dataset

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Submission:
    """A request for a job."""

    spec: JobSpec
    idempotency_key: str | None = None
    origin: Origin = NO_ORIGIN


class Submissions:
    """Accepts jobs. What it raises, it raises before anything is queued."""

    def __init__(
        self,
        *,
        database: Database,
        reader: JobReader,
        control: JobControl,
        datasets: DatasetRegistry,
        estimator: Estimator,
        models: ModelFolders,
        engine: EngineRef,
        trainer: TrainerRef,
        embedder: str,
        vllm: VllmSettings | None = None,
    ) -> None:
        """`vllm`: the settings of the engine that will serve the adapters, where it is vLLM."""
        self._database = database
        self._reader = reader
        self._control = control
        self._datasets = datasets
        self._models = models
        self._engine = engine
        self._trainer = trainer
        self._embedder = embedder
        self._vllm = vllm
        self._estimator = estimator

    def submit_all(self, asked: Sequence[Submission]) -> list[CreatedJob | Exception]:
        """Queue each job, all in one transaction, or say what speaks against it: the same as `validate` would.

        The same key and body give the same job again, even if it could not be accepted by now; the same key with
        another body is an IdempotencyConflict.
        """
        keys = [_each(_key, one) for one in asked]
        earlier = iter(self._earlier([key for key in keys if not isinstance(key, Exception)]))
        outcomes: list[CreatedJob | NewJob | Exception] = []
        for one, key in zip(asked, keys, strict=True):
            if isinstance(key, Exception):
                outcomes.append(key)
                continue
            known = next(earlier)
            outcomes.append(_each(self._new, one, key) if known is None else known)
        made = iter(self._control.create_jobs([each for each in outcomes if isinstance(each, NewJob)]))
        return [next(made) if isinstance(each, NewJob) else each for each in outcomes]

    def _new(self, asked: Submission, idempotency: Idempotency | None) -> NewJob:
        sized = self._resolve(asked.spec, asked.origin.team)
        estimate = self._estimator.estimate(sized)
        return NewJob(
            sized.job,
            sized.stages,
            sized.reused,
            origin=asked.origin,
            idempotency=idempotency,
            new_data=True,
            estimate=estimate,
        )

    def is_quick(self, spec: JobSpec) -> bool:
        """Whether `submit_all` takes milliseconds: no rows in it, no weights to be read for their digest."""
        without_rows = spec.dataset.rows is None and spec.probe.shots is None
        return without_rows and self._models.is_known(spec.base_model.id, spec.base_model.revision)

    def retry(
        self,
        job_id: str,
        request: RetryRequest,
        *,
        idempotency_key: str | None,
        actor: str | None = None,
        traceparent: str | None = None,
    ) -> CreatedJob:
        """Queue a new job that does an ended one again; what is there already is used again, up to `from_stage`.

        Raises NotFound, Conflict where the job goes on or has nothing to do again, RequestInvalid for an unknown stage,
        IdempotencyConflict.
        """
        job = self._reader.row(job_id)
        asked = f"retry {job_id} {request.from_stage}"
        idempotency = Idempotency.of(idempotency_key, job.team, asked)
        [earlier] = self._earlier([idempotency])
        if isinstance(earlier, Exception):
            raise earlier
        if earlier is not None:
            return earlier
        _check_ended(job, request)
        resolved = ResolvedJob.model_validate(job.resolved)
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

    def validate(self, spec: JobSpec, *, team: str) -> ValidationView:
        """What `submit_all` would queue for the team. Inline rows are kept as a dataset: they need not be sent again.

        Raises ModelNotFound, ModelRejected, DatasetInvalid, ContextTooLong, RehearsalTooShort, RequestInvalid.
        """
        sized = self._resolve(spec, team)
        estimate = self._estimator.estimate(sized)
        return ValidationView(
            resolved=resolved_view(sized.job, questions=sized.questions),
            stages=[
                PlannedStageView(
                    name=stage.name,
                    kind=stage.kind,
                    service=stage.service,
                    depends_on=list(stage.depends_on),
                    reused=stage.name in sized.reused,
                )
                for stage in sized.stages
            ],
            estimate=estimate,
            checks=[
                *passed_checks(sized.job.spec, vllm=self._vllm),
                memory_check(estimate.memory),
                *self._estimator.quota_checks(sized, estimate),
            ],
        )

    def _earlier(self, keys: Sequence[Idempotency | None]) -> list[CreatedJob | IdempotencyConflict | None]:
        if not any(keys):
            return [None] * len(keys)
        with self._database.read() as session:
            return earlier_jobs(session, keys)

    def _resolve(self, spec: JobSpec, team: str) -> SizedJob:
        model = self._models.find(spec.base_model.id, spec.base_model.revision)
        check_tokenizer(model)
        check_wording(spec)
        probe = spec.probe.model_copy(update={"shots": checked_shots(spec)})
        check_lengths(spec, model, self._vllm)
        if self._vllm is not None:
            check_servable(spec, self._vllm)
        dataset = self._dataset(spec, team)
        check_sizes(spec, dataset.rows)
        evaluation = self._evaluation(spec, team)
        resolved = ResolvedJob(
            spec=spec.model_copy(update={"dataset": DatasetRef(id=dataset.id), "probe": probe}),
            model=model.ref,
            engine=self._engine,
            trainer=self._trainer,
            embedder=self._embedder,
            dataset=dataset.ref,
            evaluation={name: further.ref for name, further in evaluation.items()},
        )
        sizes = {name: further.rows for name, further in evaluation.items()}
        sized = self._sized(resolved, team, questions=dataset.rows, evaluation=sizes, folder=model.path)
        if shape := self._estimator.shape(sized):
            check_target_modules(spec, shape)
        return sized

    def _sized(
        self,
        resolved: ResolvedJob,
        team: str,
        *,
        questions: int,
        evaluation: Mapping[str, int],
        folder: Path | None,
        again: frozenset[str] = frozenset(),
    ) -> SizedJob:
        stages = plan(resolved)
        return SizedJob(
            job=resolved,
            stages=stages,
            reused=self._control.reusable(stages, recompute=again),
            questions=questions,
            evaluation=evaluation,
            team=team,
            model_folder=folder,
        )

    def _sized_again(self, resolved: ResolvedJob, team: str, again: frozenset[str]) -> SizedJob | None:
        """None where a dataset was deleted meanwhile, since nothing tells its size."""
        spec = resolved.spec
        folder = None
        with suppress(ModelNotFound, ModelRejected):
            folder = self._models.find(resolved.model.id, resolved.model.revision).path
        try:
            questions = self._datasets.row(spec.dataset.id or "").rows
            further = [self._datasets.row(wanted.dataset).rows for wanted in spec.evaluation]
        except NotFound:
            return None
        sizes = dict(zip(resolved.evaluation, further, strict=True))
        return self._sized(resolved, team, questions=questions, evaluation=sizes, folder=folder, again=again)

    def _dataset(self, spec: JobSpec, team: str) -> Dataset:
        if spec.dataset.rows is not None:
            # The default is no word of the caller's: rows with choices are then asked about, not read without them.
            said = spec.task if "task" in spec.model_fields_set else None
            return self._datasets.add_rows(
                spec.dataset.rows, Reading(task=said), name=spec.name, team=team, param="dataset.rows"
            )
        return self._known(spec.dataset.id or "", spec, team, param="dataset.id")

    def _known(self, dataset_id: str, spec: JobSpec, team: str, *, param: str) -> Dataset:
        try:
            dataset = self._datasets.row(dataset_id, team=team)
        except NotFound as error:
            # The URL exists; it is the body that names something unknown.
            raise RequestInvalid(f"There is no dataset {dataset_id}.", hint=error.hint, param=param) from None
        if dataset.task is not spec.task:
            raise RequestInvalid(
                f"Dataset {dataset_id} is {dataset.task.value}, the job is {spec.task.value}.",
                hint=f'Say "task": "{dataset.task.value}", or choose another dataset.',
                param="task",
            )
        return dataset

    def _evaluation(self, spec: JobSpec, team: str) -> dict[str, Dataset]:
        """The further sets by the name that they have in stages and report."""
        found: dict[str, Dataset] = {}
        for position, wanted in enumerate(spec.evaluation):
            dataset = self._known(wanted.dataset, spec, team, param=f"evaluation.{position}.dataset")
            name = wanted.name or _NOT_IN_A_NAME.sub("-", (dataset.name or "").lower()).strip("-._")[:100]
            name = name or dataset.id
            if name == HELD_OUT or name in found:
                raise RequestInvalid(
                    f"Two evaluation sets would be called {name}.",
                    hint="Give each set of `evaluation` a `name` of its own; `held_out` is the split's.",
                    param=f"evaluation.{position}.name",
                )
            found[name] = dataset
        return found


def _key(asked: Submission) -> Idempotency | None:
    return Idempotency.of(asked.idempotency_key, asked.origin.team, asked.spec)


def _each(call: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT | Exception:
    """What one of several comes to: a defect too is that one's alone."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return error
