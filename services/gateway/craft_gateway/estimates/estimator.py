"""Estimates a job's time and memory from this installation's history, the model's shapes and the current queues."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition
from typing import Any

from cachetools import TTLCache, cached

from craft.contracts.documents.estimate import Check, Estimate, QueueEstimate, SecondsEstimate, StageEstimate
from craft.contracts.stages.artifacts import ArtifactRef
from craft.contracts.stages.kinds import FACTS, StageKind, WorkUnit
from craft.contracts.stages.names import which_of
from craft.core.questions import Task
from craft.errors import ModelRejected
from craft.infra.models.shape import ModelShape, read_shape
from craft_gateway.estimates.bounds import max_rehearsed, upper_bounds
from craft_gateway.estimates.checks import gpu_seconds_left, gpu_seconds_of_one_job, running_jobs
from craft_gateway.estimates.memory import RowTokens, memory
from craft_gateway.plan.stages import PlannedStage, ResolvedJob
from craft_gateway.scheduling.allowances import begun_jobs, gpu_seconds, team_allowances
from craft_gateway.scheduling.duration_model import DurationModel, measured_peak, read_duration_model, total
from craft_gateway.scheduling.queue import expected_wait
from craft_gateway.scheduling.stage_durations import StageDurations
from craft_gateway.store.database import Database

_MAX_REMEMBERED = 1000
_DURATION_MODEL_SECONDS = 5.0
"""A duration model is used for so long; one more stage in the history hardly changes it."""
_QUEUE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SizedJob:
    """A job with the facts that determine its cost. `evaluation` counts the questions of further sets, by name."""

    job: ResolvedJob
    stages: Sequence[PlannedStage]
    reused: Mapping[str, ArtifactRef]
    """Artifacts of the stages that need not be computed, by the stage's name."""
    questions: int
    evaluation: Mapping[str, int]
    team: str
    model_folder: Path | None
    """None if the model was removed."""
    tokens: RowTokens = field(default_factory=RowTokens)
    """Those of the rows of the job's datasets."""


class Estimator:
    """Estimates jobs. It caches its queries for seconds: of many jobs that arrive at once, one reads the database."""

    def __init__(
        self,
        database: Database,
        *,
        duration_model_seconds: float = _DURATION_MODEL_SECONDS,
        queue_seconds: float = _QUEUE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`duration_model_seconds`, `queue_seconds`: lifetimes of the cached duration models and expected waits."""
        self._database = database
        self._durations = StageDurations(model_seconds=duration_model_seconds, clock=clock)
        models = TTLCache[Any, DurationModel](_MAX_REMEMBERED, duration_model_seconds, clock)
        waits = TTLCache[Any, tuple[int, float | None]](_MAX_REMEMBERED, queue_seconds, clock)
        self._shapes: dict[str, ModelShape] = {}
        self._duration_model = cached(models, condition=Condition())(self._read_duration_model)
        peaks = TTLCache[Any, int | None](_MAX_REMEMBERED, duration_model_seconds, clock)
        self._peak = cached(peaks, condition=Condition())(self._read_peak)
        self._wait = cached(waits, condition=Condition())(self._read_wait)

    def estimate(self, sized: SizedJob) -> Estimate:
        """Estimate the job as if it were queued now."""
        bounds = upper_bounds(
            sized.job.spec,
            questions=sized.questions,
            evaluation_questions=sum(sized.evaluation.values()),
            stages=[stage.kind for stage in sized.stages],
            reused=[position for position, stage in enumerate(sized.stages) if stage.name in sized.reused],
        )
        shape = self.shape(sized)
        model, parameters = sized.job.model.digest, shape.parameters if shape else None
        stages = [
            _stage(stage, sized, self._duration_model(stage.kind, model, parameters), bounds) for stage in sized.stages
        ]
        computed = [stage for stage in stages if not stage.reused]
        return bounds.model_copy(
            update={
                "stage_estimates": stages,
                "seconds": _sum(computed),
                "expected_generated_tokens": _tokens([stage.generated_tokens for stage in computed]),
                "expected_trained_tokens": _tokens([stage.trained_tokens for stage in computed]),
                "memory": None
                if shape is None
                else memory(sized.job, shape, sized.tokens, measured_bytes=self._peak(model)),
                "queue": self._queue(sized),
            }
        )

    def quota_checks(self, sized: SizedJob, estimate: Estimate) -> list[Check]:
        """Check whether the team's quotas let the job run now, later or never."""
        with self._database.read() as session:
            now = self._database.now(session)
            allowance = team_allowances(session).allowance(sized.team)
            begun = begun_jobs(session, sized.team)
            spent = gpu_seconds(session, sized.team, now)
        needed = [
            estimated.seconds.seconds
            for estimated, stage in zip(estimate.stage_estimates, sized.stages, strict=True)
            if stage.service.uses_accelerator and not estimated.reused
        ]
        return [
            running_jobs(begun, allowance.max_running_jobs, sized.team),
            gpu_seconds_left(needed, spent, allowance.gpu_seconds_per_day, sized.team),
            gpu_seconds_of_one_job(needed, allowance.gpu_seconds_per_job, sized.team),
        ]

    def _queue(self, sized: SizedJob) -> QueueEstimate:
        computed = [stage for stage in sized.stages if stage.name not in sized.reused]
        # Jobs wait for accelerators; the stages before the first one on an accelerator take only seconds.
        on_accelerator = next((stage for stage in computed if stage.service.uses_accelerator), None)
        kinds = {stage.kind for stage in (*computed[:1], on_accelerator) if stage is not None}
        waits = [self._wait(kind, sized.team, 100 - sized.job.spec.priority) for kind in kinds]
        known = [seconds for _, seconds in waits if seconds is not None]
        return QueueEstimate(
            seconds=max(known, default=0.0) if len(known) == len(waits) else None,
            ahead=max((ahead for ahead, _ in waits), default=0),
        )

    def shape(self, sized: SizedJob) -> ModelShape | None:
        """Return the base model's shape; None, which is not cached, where the model is gone or cannot be read now."""
        return self.shape_of(sized.job.model.digest, sized.model_folder)

    def shape_of(self, digest: str, folder: Path | None) -> ModelShape | None:
        """Return the shape of the model with this digest; as `shape`."""
        shape = self._shapes.get(digest)
        if shape is None and folder is not None:
            with suppress(ModelRejected, OSError, ValueError):
                shape = self._shapes[digest] = read_shape(folder)
        return shape

    def _read_duration_model(self, kind: StageKind, model: str, parameters: int | None) -> DurationModel:
        with self._database.read() as session:
            return read_duration_model(session, kind, model, parameters)

    def _read_peak(self, model: str) -> int | None:
        with self._database.read() as session:
            return measured_peak(session, model)

    def _read_wait(self, kind: StageKind, team: str, rank: int) -> tuple[int, float | None]:
        with self._database.read() as session:
            now = self._database.now(session)
            return expected_wait(session, kind, team, rank, now, durations=self._durations)


def units_of(stage: PlannedStage, sized: SizedJob, bounds: Estimate) -> float:
    """Return the stage's amount of work, in the unit of its kind."""
    spec, train = sized.job.spec, bounds.train_questions
    evaluated = bounds.held_out_questions + sum(sized.evaluation.values())
    rehearsed = max_rehearsed(spec, train)
    tuned = min(train, (spec.selection.n_van or train) + (spec.selection.n_idk or train))
    replies = train * (spec.probe.samples if spec.task is Task.OPEN_ENDED else 1)
    counts = {
        WorkUnit.DATASET_QUESTIONS: sized.evaluation.get(which_of(stage.name), sized.questions),
        WorkUnit.TRAIN_QUESTIONS: train,
        WorkUnit.PROBE_REPLIES: replies,
        WorkUnit.REHEARSED_SAMPLES: rehearsed * spec.rehearsal.training.epochs,
        WorkUnit.TUNED_SAMPLES: tuned * spec.training.epochs,
        WorkUnit.EVALUATION_QUESTIONS: evaluated,
        WorkUnit.ADAPTERS: 1,
    }
    return float(counts[FACTS[stage.kind].unit])


def _stage(stage: PlannedStage, sized: SizedJob, model: DurationModel, bounds: Estimate) -> StageEstimate:
    units = units_of(stage, sized, bounds)
    return StageEstimate(
        stage=stage.name,
        kind=stage.kind,
        units=units,
        reused=stage.name in sized.reused,
        seconds=model.seconds(units),
        generated_tokens=model.generated_tokens(units),
        trained_tokens=model.trained_tokens(units),
    )


def _sum(stages: Sequence[StageEstimate]) -> SecondsEstimate:
    """Add up the stages' seconds.

    The ends of the intervals are added too: the stages of one job are slow or fast together, so errors do not cancel.
    """
    bases = {stage.seconds.basis for stage in stages if stage.seconds.basis}
    return SecondsEstimate(
        seconds=total([stage.seconds.seconds for stage in stages]),
        low=total([stage.seconds.low for stage in stages]),
        high=total([stage.seconds.high for stage in stages]),
        based_on=sum(stage.seconds.based_on for stage in stages),
        basis=max(bases, default=None),
    )


def _tokens(values: Sequence[int | None]) -> int | None:
    whole = total(values)
    return None if whole is None else int(whole)
