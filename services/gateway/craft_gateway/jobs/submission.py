"""From a request for a job to a job that can run: names are resolved, and everything knowable is checked first."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from craft.contracts.public.jobs import JobView, PlannedStageView, ValidationView
from craft.contracts.services.datasets import DatasetStatistics, Reading
from craft.contracts.spec.jobs import DatasetRef, JobSpec
from craft.contracts.stages.names import HELD_OUT
from craft.contracts.stages.parameters import EngineRef, TrainerRef
from craft.errors import IdempotencyConflict, NotFound, RequestInvalid
from craft.infra.models.chats.formats import settled_chats
from craft.infra.models.folders import ModelFolders
from craft.infra.settings.inference import VllmSettings
from craft_gateway.datasets.registry import DatasetRegistry
from craft_gateway.estimates.estimator import Estimator, SizedJob
from craft_gateway.estimates.memory import RowTokens, memory_check
from craft_gateway.job_views.reader import JobReader
from craft_gateway.job_views.views import resolved_view
from craft_gateway.jobs.checks import (
    check_lengths,
    check_quantization,
    check_servable,
    check_sizes,
    check_target_modules,
    check_tokenizer,
    check_wording,
    checked_shots,
    passed_checks,
    served_length,
)
from craft_gateway.jobs.feasibility import check_counts, check_rank, check_split, check_tied_head
from craft_gateway.jobs.inspection import JobInspection, JobInspector
from craft_gateway.jobs.model_findings import check_files_served
from craft_gateway.jobs.template_findings import served_findings
from craft_gateway.jobs.training_room import training_room
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.lifecycle.creation import NO_ORIGIN, CreatedJob, Idempotency, NewJob, Origin
from craft_gateway.plan.stages import ResolvedJob, plan
from craft_gateway.store.tables import Dataset, Job

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
    """Accepts jobs. An error is raised before anything is queued."""

    def __init__(
        self,
        *,
        reader: JobReader,
        control: JobControl,
        datasets: DatasetRegistry,
        estimator: Estimator,
        models: ModelFolders,
        inspector: JobInspector,
        engine: EngineRef,
        trainer: TrainerRef,
        embedder: str,
        nf4: bool = False,
        device_bytes: int | None = None,
        vllm: VllmSettings | None = None,
        today: Callable[[], date] = lambda: datetime.now(UTC).date(),
    ) -> None:
        """`vllm`: the settings of the engine that will serve the adapters, where it is vLLM.

        `today` is the date that a chat template writes for a job accepted now. With `nf4` training workers
        can train on weights of 4 bits. `device_bytes` is the memory of their device, where it is known.
        """
        self._reader = reader
        self._control = control
        self._datasets = datasets
        self._models = models
        self._inspector = inspector
        self._engine = engine
        self._trainer = trainer
        self._embedder = embedder
        self._nf4 = nf4
        self._device_bytes = device_bytes
        self._vllm = vllm
        self._today = today
        self._estimator = estimator

    def submit(self, submission: Submission) -> JobView:
        """Queue one job. See `submit_many`; its error is raised."""
        [outcome] = self.submit_many([submission])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def submit_many(self, submissions: Sequence[Submission]) -> list[JobView | Exception]:
        """Queue each job, all in one transaction, and show it; or give the error that `validate` would raise.

        The same key and body give the same job again, even if it could not be accepted by now; the same key with
        another body gives an IdempotencyConflict. One submission's error is no other's.
        """
        keys = [_result_or_error(Idempotency.of, s.idempotency_key, s.origin.team, s.spec) for s in submissions]
        # One query for all of them.
        earlier = self._control.earlier_jobs([key if isinstance(key, Idempotency) else None for key in keys])
        prepared = [_result_or_error(self._prepare, *each) for each in zip(submissions, keys, earlier, strict=True)]
        stored = iter(self._control.create_jobs([each for each in prepared if isinstance(each, NewJob)]))
        created = [next(stored) if isinstance(each, NewJob) else each for each in prepared]
        views = iter(self._views([each.row for each in created if isinstance(each, CreatedJob)]))
        return [next(views) if isinstance(each, CreatedJob) else each for each in created]

    def is_quick(self, spec: JobSpec) -> bool:
        """True if `submit` takes milliseconds: no rows or texts to check, and model and rows looked at before."""
        without_rows = spec.dataset.rows is None and spec.probe.shots is None
        without_texts = not spec.prompts.templates and not spec.prompts.extra_refusals
        known = self._models.is_known(spec.base_model.id, spec.base_model.revision)
        return without_rows and without_texts and known and self._inspector.is_known(spec)

    def validate(self, spec: JobSpec, *, team: str) -> ValidationView:
        """Show what `submit` would queue for the team. Inline rows become a dataset, so they need not be sent again.

        Raises ModelNotFound, ModelRejected, DatasetInvalid, ContextTooLong, RehearsalTooShort, RequestInvalid.
        """
        sized, inspected = self._resolve(spec, team)
        # A dry run leaves no trace, so it must not tell what other teams have computed.
        sized = replace(sized, reused=self._control.used_by_team(team, sized.reused))
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
                inspected.check,
                memory_check(estimate.memory, device_bytes=self._device_bytes),
                *self._estimator.quota_checks(sized, estimate),
            ],
            findings=sized.job.findings,
        )

    def _prepare(
        self,
        submission: Submission,
        idempotency: Idempotency | Exception | None,
        earlier: CreatedJob | IdempotencyConflict | None,
    ) -> NewJob | CreatedJob:
        """`earlier`: the job that the key made before, or the error if its body was another."""
        if isinstance(idempotency, Exception):
            raise idempotency
        if isinstance(earlier, Exception):
            raise earlier
        if earlier is not None:
            return earlier
        sized, _ = self._resolve(submission.spec, submission.origin.team)
        return NewJob(
            sized.job,
            sized.stages,
            sized.reused,
            origin=submission.origin,
            idempotency=idempotency,
            new_data=True,  # its datasets must exist still; a retry may do with artifacts that do
            estimate=self._estimator.estimate(sized),
        )

    def _resolve(self, spec: JobSpec, team: str) -> tuple[SizedJob, JobInspection]:
        model = self._models.find(spec.base_model.id, spec.base_model.revision)
        check_tokenizer(model)
        chats = settled_chats(model.path, spec.base_model, today=self._today())
        chats = chats._replace(findings=(*chats.findings, *served_findings(chats.form, self._vllm)))
        check_wording(spec)
        check_quantization(spec, nf4=self._nf4)
        probe = spec.probe.model_copy(update={"shots": checked_shots(spec)})
        check_lengths(spec, model, self._vllm)
        if self._vllm is not None:
            check_servable(spec, self._vllm)
            check_files_served(model)
        dataset = self._dataset(spec, team)
        check_sizes(spec, dataset.rows)
        check_split(spec, dataset.rows)
        check_counts(spec, dataset.rows)
        evaluation = self._evaluation(spec, team)
        named = spec.model_copy(update={"dataset": DatasetRef(id=dataset.id), "probe": probe})
        sets = {HELD_OUT: dataset.ref, **{name: further.ref for name, further in evaluation.items()}}
        shape = self._estimator.shape_of(model.ref.digest, model.path)
        room = training_room(spec, shape, self._trainer, device_bytes=self._device_bytes)
        inspected = self._inspector.inspect(
            named, model, sets, context_length=served_length(model, self._vllm), chats=chats, room=room
        )
        resolved = ResolvedJob(
            spec=named,
            model=model.ref.model_copy(update={"chat": chats.form}),
            engine=self._engine,
            trainer=self._trainer,
            embedder=self._embedder,
            dataset=dataset.ref,
            evaluation={name: further.ref for name, further in evaluation.items()},
            findings=list(inspected.findings),
            left_out={name: list(lines) for name, lines in inspected.left_out.items()},
        )
        sizes = {name: further.rows for name, further in evaluation.items()}
        sized = sized_job(
            self._control,
            resolved,
            team,
            questions=dataset.rows,
            evaluation=sizes,
            model_folder=model.path,
            tokens=row_tokens([dataset, *evaluation.values()]),
        )
        if shape:
            check_target_modules(spec, shape)
            check_tied_head(spec, shape)
            check_rank(spec, shape)
        return sized, inspected

    def _dataset(self, spec: JobSpec, team: str) -> Dataset:
        if spec.dataset.rows is not None:
            # The default task is not the caller's word: rows with choices are then an error, not read without them.
            said = spec.task if "task" in spec.model_fields_set else None
            return self._datasets.add_rows(
                spec.dataset.rows,
                Reading(task=said, accept=spec.accept),
                name=spec.name,
                team=team,
                param="dataset.rows",
            )
        return self._known(spec.dataset.id or "", spec, team, param="dataset.id")

    def _known(self, dataset_id: str, spec: JobSpec, team: str, *, param: str) -> Dataset:
        try:
            dataset = self._datasets.row(dataset_id, team=team)
        except NotFound as error:
            # The URL exists; the body names something unknown.
            raise RequestInvalid(f"There is no dataset {dataset_id}.", hint=error.hint, param=param) from None
        if dataset.task is not spec.task:
            raise RequestInvalid(
                f"Dataset {dataset_id} is {dataset.task.value}, the job is {spec.task.value}.",
                hint=f'Say "task": "{dataset.task.value}", or choose another dataset.',
                param="task",
            )
        return dataset

    def _evaluation(self, spec: JobSpec, team: str) -> dict[str, Dataset]:
        """The further sets, by their name in stages and report."""
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

    def _views(self, jobs: Sequence[Job]) -> list[JobView | Exception]:
        try:
            return [*self._reader.views_of(jobs)]
        except Exception as error:
            # One job that cannot be shown hides no other.
            return [view for job in jobs for view in self._views([job])] if len(jobs) > 1 else [error]


def sized_job(
    control: JobControl,
    resolved: ResolvedJob,
    team: str,
    *,
    questions: int,
    evaluation: Mapping[str, int],
    model_folder: Path | None,
    tokens: RowTokens,
    recompute: frozenset[str] = frozenset(),
) -> SizedJob:
    """The job with its plan, the stages that need not be computed (but for `recompute`), and its sizes."""
    stages = plan(resolved)
    return SizedJob(
        job=resolved,
        stages=stages,
        reused=control.reusable(stages, recompute=recompute),
        questions=questions,
        evaluation=evaluation,
        team=team,
        model_folder=model_folder,
        tokens=tokens,
    )


def row_tokens(datasets: Sequence[Dataset]) -> RowTokens:
    """The tokens of the rows of datasets, from the statistics that were made when they came."""
    return RowTokens.of([DatasetStatistics.model_validate(dataset.statistics) for dataset in datasets])


def _result_or_error(call: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT | Exception:
    """The result of one of several, or its error: a defect too is that one's alone."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        return error
