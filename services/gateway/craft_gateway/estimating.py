"""What a job will likely take, from this installation's history, the model's shapes and the queues as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session

from craft.contracts.estimates import (
    Check,
    CheckOutcome,
    Estimate,
    MemoryEstimate,
    QueueEstimate,
    SecondsEstimate,
    StageEstimate,
)
from craft.contracts.stages import EngineRef, StageKind
from craft.core.questions import Task
from craft.errors import ModelRejected
from craft.infra.model_shape import ModelShape, read_shape, training_bytes
from craft_gateway.database import Database
from craft_gateway.estimate_history import Past, history, predicted, relevant, tokens_for_each_unit
from craft_gateway.fair_share import ON_ACCELERATORS, begun_jobs, gpu_seconds
from craft_gateway.plan import PlannedStage, ResolvedJob
from craft_gateway.submission_estimate import estimate, most_rehearsed
from craft_gateway.teams import teams_in
from craft_gateway.waiting_line import outlook

_ROW_TOKENS = 256
_PROMPT_TOKENS = 256
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_KEYS_AND_VALUES = frozenset({"k_proj", "v_proj"})


@dataclass(frozen=True, slots=True)
class Sized:
    """A job with what its cost depends on. `evaluation` counts the questions of further sets, by name."""

    job: ResolvedJob
    stages: Sequence[PlannedStage]
    reused: frozenset[str]
    questions: int
    evaluation: Mapping[str, int]
    team: str
    model_folder: Path | None
    """None where the model is gone."""


class Estimator:
    """Estimates jobs; looks at the database in one short read each time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def estimate(self, sized: Sized) -> Estimate:
        """Of a job that would be queued now."""
        kinds = [stage.kind for stage in sized.stages]
        counted = estimate(
            sized.job.spec,
            questions=sized.questions,
            evaluation_questions=sum(sized.evaluation.values()),
            stages=kinds,
            reused=[position for position, stage in enumerate(sized.stages) if stage.name in sized.reused],
        )
        shape = _shape(sized.model_folder)
        with self._database.read() as session:
            past = history(session, set(kinds))
            queue = self._queue(session, sized)
        stages = [_stage(stage, sized, past[stage.kind], shape, counted) for stage in sized.stages]
        wanted = [each for each in stages if not each.reused]
        return counted.model_copy(
            update={
                "stage_estimates": stages,
                "seconds": _sum(wanted),
                "expected_generated_tokens": _tokens([each.generated_tokens for each in wanted]),
                "expected_trained_tokens": _tokens([each.trained_tokens for each in wanted]),
                "memory": None if shape is None else _memory(sized.job, shape),
                "queue": queue,
            }
        )

    def quota_checks(self, sized: Sized, found: Estimate) -> list[Check]:
        """Whether the team may run the job now, later or never."""
        with self._database.read() as session:
            now = self._database.now(session)
            allowance = teams_in(session).allowance(sized.team)
            begun = begun_jobs(session, sized.team)
            spent = gpu_seconds(session, sized.team, now)
        needed = [
            each.seconds.seconds
            for each, stage in zip(found.stage_estimates, sized.stages, strict=True)
            if stage.service in ON_ACCELERATORS and not each.reused
        ]
        return [
            _running_jobs(begun, allowance.max_running_jobs, sized.team),
            _gpu_seconds(needed, spent, allowance.gpu_seconds_per_day, sized.team),
        ]

    def _queue(self, session: Session, sized: Sized) -> QueueEstimate:
        first = next((stage for stage in sized.stages if stage.name not in sized.reused), None)
        if first is None:
            return QueueEstimate(seconds=0.0, ahead=0)
        now = self._database.now(session)
        rank = 100 - sized.job.spec.priority
        ahead, seconds = outlook(session, first.kind, sized.team, rank, now)
        return QueueEstimate(seconds=seconds, ahead=ahead)


def memory_check(memory: MemoryEstimate | None) -> Check:
    """What it needs; which worker has how much is not known to the gateway."""
    if memory is None:
        return Check(
            name="memory",
            outcome=CheckOutcome.UNKNOWN,
            message="The model's shapes cannot be read from its files.",
            hint="config.json needs num_hidden_layers, hidden_size, vocab_size and max_position_embeddings.",
        )
    return Check(
        name="memory",
        outcome=CheckOutcome.UNKNOWN,
        message=f"About {memory.device_bytes / 2**30:.1f} GiB of a worker's accelerator, or of its host without one.",
        hint="See that inference and training workers have as much free.",
    )


def units_of(stage: PlannedStage, sized: Sized, counted: Estimate) -> float:
    """What the stage's time depends on: replies, prompts, samples trained, or questions."""
    spec, train = sized.job.spec, counted.train_questions
    evaluated = counted.held_out_questions + sum(sized.evaluation.values())
    rehearsed = most_rehearsed(spec, train)
    tuned = min(train, (spec.selection.n_van or train) + (spec.selection.n_idk or train))
    replies = train * (spec.probe.samples if spec.task is Task.OPEN_ENDED else 1)
    by_kind = {
        StageKind.INGEST: sized.evaluation.get(stage.name.partition(":")[2], sized.questions),
        StageKind.PROBE: replies,
        StageKind.SCORE: replies,
        StageKind.REHEARSE: rehearsed * spec.rehearsal.training.epochs,
        StageKind.TUNE: tuned * spec.training.epochs,
        StageKind.ANSWER: evaluated,
        StageKind.EVALUATE: evaluated,
        StageKind.PACKAGE: 1,
        StageKind.REPORT: sized.questions,
    }
    return float(by_kind.get(stage.kind, train))


def _shape(folder: Path | None) -> ModelShape | None:
    try:
        return None if folder is None else read_shape(folder)
    except (ModelRejected, OSError, ValueError):
        return None


def _stage(
    stage: PlannedStage, sized: Sized, past: Sequence[Past], shape: ModelShape | None, counted: Estimate
) -> StageEstimate:
    units = units_of(stage, sized, counted)
    parameters = shape.parameters if shape else None
    known, basis = relevant(past, stage.kind, sized.job.model.digest, parameters)
    tokens = {name: None if rate is None else round(rate * units) for name, rate in tokens_for_each_unit(known).items()}
    return StageEstimate(
        stage=stage.name,
        kind=stage.kind,
        units=units,
        reused=stage.name in sized.reused,
        seconds=predicted(known, units, basis),
        generated_tokens=tokens["generated_tokens"],
        trained_tokens=tokens["trained_tokens"],
    )


def _sum(stages: Sequence[StageEstimate]) -> SecondsEstimate:
    """Ends are added too: stages of one job are slow or fast together, so nothing cancels out."""
    bases = {each.seconds.basis for each in stages if each.seconds.basis}
    return SecondsEstimate(
        seconds=_total([each.seconds.seconds for each in stages]),
        low=_total([each.seconds.low for each in stages]),
        high=_total([each.seconds.high for each in stages]),
        based_on=sum(each.seconds.based_on for each in stages),
        basis=max(bases, default=None),
    )


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _tokens(values: Sequence[int | None]) -> int | None:
    total = _total(values)
    return None if total is None else int(total)


def _memory(job: ResolvedJob, shape: ModelShape) -> MemoryEstimate:
    weight_bytes = _BYTES[job.engine.dtype]
    weights = weight_bytes * shape.parameters
    runs = [job.spec.training]
    if any(strategy.needs_flow for strategy in job.spec.strategies):
        runs.append(job.spec.rehearsal.training)
    training = max(
        training_bytes(
            shape,
            settings,
            rows=settings.batch_size,
            tokens_per_row=min(_ROW_TOKENS, settings.max_length),
            answer_tokens_per_row=min(_ROW_TOKENS, settings.max_length),
            weight_bytes=_BYTES[job.trainer.dtype],
        )
        for settings in runs
    )
    inference = weights + weight_bytes * _cached_numbers(shape) * _cached_tokens(job, job.engine)
    return MemoryEstimate(
        parameters=shape.parameters,
        weights_bytes=weights,
        adapter_bytes=4 * max(shape.lora_parameters(settings) for settings in runs),
        training_bytes=training,
        inference_bytes=inference,
        host_bytes=weights,
        device_bytes=max(training, inference),
    )


def _cached_numbers(shape: ModelShape) -> int:
    """Keys and values of one token over all layers."""
    named = [
        outputs
        for name, (outputs, _) in shape.matrices.items()
        if name.removesuffix(".weight").rpartition(".")[2] in _KEYS_AND_VALUES
    ]
    return sum(named) or 2 * shape.layers * shape.hidden


def _cached_tokens(job: ResolvedJob, engine: EngineRef) -> int:
    probe = job.spec.probe
    replies = probe.samples * probe.max_new_tokens if job.spec.task is Task.OPEN_ENDED else 1
    return engine.questions_per_batch * (_PROMPT_TOKENS + max(replies, job.spec.evaluation_settings.max_new_tokens))


def _running_jobs(begun: int, most: int | None, team: str) -> Check:
    if most is None:
        return Check(name="running_jobs", outcome=CheckOutcome.PASSED, message=f"Team {team} has no limit.")
    told = f"Team {team} runs {begun} of at most {most} jobs."
    if begun < most:
        return Check(name="running_jobs", outcome=CheckOutcome.PASSED, message=told)
    return Check(name="running_jobs", outcome=CheckOutcome.WAITS, message=told, hint="It begins when one of them ends.")


def _gpu_seconds(needed: Sequence[float | None], spent: float, quota: float | None, team: str) -> Check:
    if quota is None or not needed:
        told = f"Team {team} has no limit." if quota is None else "No stage needs an accelerator."
        return Check(name="gpu_seconds", outcome=CheckOutcome.PASSED, message=told)
    told = f"Team {team} has used {spent:,.0f} of its {quota:,.0f} GPU seconds of the last 24 hours."
    if quota == 0:
        hint = f"Have an operator raise gpu_seconds_per_day with PUT /craft/teams/{team}."
        return Check(name="gpu_seconds", outcome=CheckOutcome.NEVER, message=told, hint=hint)
    if spent >= quota:
        hint = "It waits until the oldest of them are a day old."
        return Check(name="gpu_seconds", outcome=CheckOutcome.WAITS, message=told, hint=hint)
    total = _total(needed)
    if total is None:
        hint = "How many this job needs is not known as yet."
        return Check(name="gpu_seconds", outcome=CheckOutcome.UNKNOWN, message=told, hint=hint)
    told += f" This job needs about {total:,.0f}."
    if spent + total > quota:
        # A stage that has begun runs to its end; only the next one waits.
        hint = "Its later stages wait for a day to pass."
        return Check(name="gpu_seconds", outcome=CheckOutcome.WAITS, message=told, hint=hint)
    return Check(name="gpu_seconds", outcome=CheckOutcome.PASSED, message=told)
