"""Predicts how long the stages on the queues take: each by the duration model of its kind, at its own size."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam
from sqlalchemy import select as columns
from sqlmodel import Session, col

from craft.contracts.stages.kinds import FACTS, StageKind
from craft_gateway.scheduling.duration_model import DurationModel, read_duration_model
from craft_gateway.store.tables import Job

_MODEL_SECONDS = 5.0
"""A duration model is used for so long; one more stage in the history hardly changes it."""
_MAX_SIZES = 50_000
_ESTIMATES = columns(col(Job.id), col(Job.estimate), col(Job.resolved)["model"]["digest"].as_string()).where(
    col(Job.id).in_(bindparam("job_ids", expanding=True))
)


class StageRef(NamedTuple):
    """A stage by its job and its name."""

    job_id: str
    name: str
    kind: StageKind


class _StageSize(NamedTuple):
    """The facts that a stage's time depends on, from its job's estimate."""

    units: float
    model: str
    parameters: int | None


class _ReadModel(NamedTuple):
    model: DurationModel
    at: float


class StageDurations:
    """Predicts durations, and caches what it reads: a stage's size for ever, a duration model for seconds.

    Threads may share it: two that miss the same entry at once both read it.
    """

    def __init__(self, *, model_seconds: float = _MODEL_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._model_seconds = model_seconds
        self._clock = clock
        self._models: dict[tuple[StageKind, str | None, int | None], _ReadModel] = {}
        self._sizes: dict[StageRef, _StageSize] = {}

    def predict(self, session: Session, stages: Sequence[StageRef]) -> list[float | None]:
        """Seconds of each stage; None if its job has no estimate, or no such stage was ever done."""
        sizes = self._sizes_of(session, stages)
        return [
            None if size is None else self._model(session, stage.kind, size).expected_seconds(size.units)
            for stage, size in zip(stages, sizes, strict=True)
        ]

    def _model(self, session: Session, kind: StageKind, size: _StageSize) -> DurationModel:
        needs_model = FACTS[kind].needs_model
        key = (kind, size.model, size.parameters) if needs_model else (kind, None, None)
        now, cached = self._clock(), self._models.get(key)
        if cached is None or now - cached.at >= self._model_seconds:
            cached = _ReadModel(read_duration_model(session, kind, size.model, size.parameters), now)
            self._models[key] = cached
        return cached.model

    def _sizes_of(self, session: Session, stages: Sequence[StageRef]) -> list[_StageSize | None]:
        known = self._sizes
        if len(known) + len(stages) > _MAX_SIZES:
            # A new dict: another thread may be reading the old one.
            known = self._sizes = {}
        missing = [stage for stage in stages if stage not in known]
        if missing:
            # Past the ORM: two columns of very many jobs.
            rows = session.connection().execute(_ESTIMATES, {"job_ids": list({stage.job_id for stage in missing})})
            read = {(job_id, name): size for job_id, *facts in rows for name, size in _job_sizes(*facts).items()}
            known.update({stage: read[key] for stage in missing if (key := (stage.job_id, stage.name)) in read})
        return [known.get(stage) for stage in stages]


def _job_sizes(estimate: dict[str, Any] | None, model: str) -> dict[str, _StageSize]:
    """The sizes of a job's stages by name. The JSON is read as it is: there may be thousands."""
    if estimate is None:
        return {}
    memory = estimate["memory"]
    parameters = None if memory is None else memory["parameters"]
    return {each["stage"]: _StageSize(each["units"], model, parameters) for each in estimate["stage_estimates"]}
