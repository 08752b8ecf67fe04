"""What a job will likely take, from this installation's history, the model's shapes and the queues as they are."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
from craft_gateway.estimates.bounds import memory, most_rehearsed, upper_bounds
from craft_gateway.estimates.checks import gpu_seconds_left, running_jobs
from craft_gateway.plan.stages import PlannedStage, ResolvedJob
from craft_gateway.scheduling.allowances import begun_jobs, gpu_seconds, team_allowances
from craft_gateway.scheduling.duration_model import DurationModel, history, relevant, total
from craft_gateway.scheduling.queue import expected_wait
from craft_gateway.store.database import Database

_MOST_REMEMBERED = 1000
_RULE_SECONDS = 5.0
"""How long a rule counts; one stage more among the last ones hardly changes it."""
_QUEUE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SizedJob:
    """A job with what its cost depends on. `evaluation` counts the questions of further sets, by name."""

    job: ResolvedJob
    stages: Sequence[PlannedStage]
    reused: Mapping[str, ArtifactRef]
    """By name, of the stages that need not be computed."""
    questions: int
    evaluation: Mapping[str, int]
    team: str
    model_folder: Path | None
    """None where the model is gone."""


class Estimator:
    """Estimates jobs. What it read a moment ago it believes: of many jobs that come at once, one asks the database."""

    def __init__(
        self,
        database: Database,
        *,
        rule_seconds: float = _RULE_SECONDS,
        queue_seconds: float = _QUEUE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """How long what was read counts."""
        self._database = database
        rules = TTLCache[Any, DurationModel](_MOST_REMEMBERED, rule_seconds, clock)
        outlooks = TTLCache[Any, tuple[int, float | None]](_MOST_REMEMBERED, queue_seconds, clock)
        self._shapes: dict[str, ModelShape] = {}
        self._rule = cached(rules, condition=Condition())(self._read_rule)
        self._outlook = cached(outlooks, condition=Condition())(self._read_outlook)

    def estimate(self, sized: SizedJob) -> Estimate:
        """Of a job that would be queued now."""
        counted = upper_bounds(
            sized.job.spec,
            questions=sized.questions,
            evaluation_questions=sum(sized.evaluation.values()),
            stages=[stage.kind for stage in sized.stages],
            reused=[position for position, stage in enumerate(sized.stages) if stage.name in sized.reused],
        )
        shape = self.shape(sized)
        model, parameters = sized.job.model.digest, shape.parameters if shape else None
        stages = [_stage(stage, sized, self._rule(stage.kind, model, parameters), counted) for stage in sized.stages]
        wanted = [each for each in stages if not each.reused]
        return counted.model_copy(
            update={
                "stage_estimates": stages,
                "seconds": _sum(wanted),
                "expected_generated_tokens": _tokens([each.generated_tokens for each in wanted]),
                "expected_trained_tokens": _tokens([each.trained_tokens for each in wanted]),
                "memory": None if shape is None else memory(sized.job, shape),
                "queue": self._queue(sized),
            }
        )

    def quota_checks(self, sized: SizedJob, found: Estimate) -> list[Check]:
        """Whether the team may run the job now, later or never."""
        with self._database.read() as session:
            now = self._database.now(session)
            allowance = team_allowances(session).allowance(sized.team)
            begun = begun_jobs(session, sized.team)
            spent = gpu_seconds(session, sized.team, now)
        needed = [
            each.seconds.seconds
            for each, stage in zip(found.stage_estimates, sized.stages, strict=True)
            if stage.service.uses_accelerator and not each.reused
        ]
        return [
            running_jobs(begun, allowance.max_running_jobs, sized.team),
            gpu_seconds_left(needed, spent, allowance.gpu_seconds_per_day, sized.team),
        ]

    def _queue(self, sized: SizedJob) -> QueueEstimate:
        wanted = [stage for stage in sized.stages if stage.name not in sized.reused]
        # What comes before takes seconds: it is for an accelerator that jobs wait.
        on_accelerator = next((stage for stage in wanted if stage.service.uses_accelerator), None)
        kinds = {stage.kind for stage in (*wanted[:1], on_accelerator) if stage is not None}
        found = [self._outlook(kind, sized.team, 100 - sized.job.spec.priority) for kind in kinds]
        waits = [seconds for _, seconds in found if seconds is not None]
        return QueueEstimate(
            seconds=max(waits, default=0.0) if len(waits) == len(found) else None,
            ahead=max((ahead for ahead, _ in found), default=0),
        )

    def shape(self, sized: SizedJob) -> ModelShape | None:
        """The base model's. None where the model is gone or cannot be read just now: that is not remembered."""
        digest = sized.job.model.digest
        found = self._shapes.get(digest)
        if found is None and sized.model_folder is not None:
            with suppress(ModelRejected, OSError, ValueError):
                found = self._shapes[digest] = read_shape(sized.model_folder)
        return found

    def _read_rule(self, kind: StageKind, model: str, parameters: int | None) -> DurationModel:
        with self._database.read() as session:
            past = history(session, kind)
        return DurationModel.of(*relevant(past, kind, model, parameters))

    def _read_outlook(self, kind: StageKind, team: str, rank: int) -> tuple[int, float | None]:
        with self._database.read() as session:
            return expected_wait(session, kind, team, rank, self._database.now(session))


def units_of(stage: PlannedStage, sized: SizedJob, counted: Estimate) -> float:
    """How many of its kind's units of work the stage has."""
    spec, train = sized.job.spec, counted.train_questions
    evaluated = counted.held_out_questions + sum(sized.evaluation.values())
    rehearsed = most_rehearsed(spec, train)
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


def _stage(stage: PlannedStage, sized: SizedJob, rule: DurationModel, counted: Estimate) -> StageEstimate:
    units = units_of(stage, sized, counted)
    return StageEstimate(
        stage=stage.name,
        kind=stage.kind,
        units=units,
        reused=stage.name in sized.reused,
        seconds=rule.seconds(units),
        generated_tokens=rule.generated_tokens(units),
        trained_tokens=rule.trained_tokens(units),
    )


def _sum(stages: Sequence[StageEstimate]) -> SecondsEstimate:
    """Ends are added too: stages of one job are slow or fast together, so nothing cancels out."""
    bases = {each.seconds.basis for each in stages if each.seconds.basis}
    return SecondsEstimate(
        seconds=total([each.seconds.seconds for each in stages]),
        low=total([each.seconds.low for each in stages]),
        high=total([each.seconds.high for each in stages]),
        based_on=sum(each.seconds.based_on for each in stages),
        basis=max(bases, default=None),
    )


def _tokens(values: Sequence[int | None]) -> int | None:
    whole = total(values)
    return None if whole is None else int(whole)
