"""The rows of a new job."""

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session, select

from craft.contracts.accounts import DEFAULT_TEAM
from craft.contracts.estimates import Estimate
from craft.contracts.events import EventType, StageStatus
from craft.contracts.job import JobStatus
from craft.contracts.stages import ArtifactRef, stage_key
from craft.errors import IdempotencyConflict
from craft.infra.ids import new_id
from craft_gateway.keys import input_plan
from craft_gateway.plan import PlannedStage, ResolvedJob
from craft_gateway.tables import Job, Outbox, Stage
from craft_gateway.transitions_unit import JobUnit


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The Idempotency-Key of a request, made one of its team's, and the SHA-256 (hex) of its body."""

    key: str
    body_hash: str

    @classmethod
    def of(cls, key: str | None, team: str, body_hash: str) -> "Idempotency | None":
        """That of a request with a key."""
        if key is None:
            return None
        # No request's key has a space, so none is another team's. The default team's are as old as the table.
        stored = key if team == DEFAULT_TEAM else f"{team} {hashlib.sha256(key.encode()).hexdigest()}"
        return cls(stored, body_hash)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a job comes from: its team, the request's W3C trace context, and what it does again if it is a retry.

    `recompute` names stages that run although their artifacts exist.
    """

    team: str = DEFAULT_TEAM
    traceparent: str | None = None
    retry_of: str | None = None
    recompute: frozenset[str] = frozenset()


NO_ORIGIN = Origin()
"""Of the default team, asked for outside any trace, and no retry."""


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """`repeated`: the same key and body came before, and this is that job. `row` as it is now."""

    row: Job
    repeated: bool = False

    @property
    def id(self) -> str:
        """The job's."""
        return self.row.id


def earlier_job(session: Session, idempotency: Idempotency | None) -> CreatedJob | None:
    """The job that this key made before, if any. Raises IdempotencyConflict where its body was another."""
    if idempotency is None:
        return None
    job = session.exec(select(Job).where(Job.idempotency_key == idempotency.key)).one_or_none()
    if job is None:
        return None
    if job.body_hash != idempotency.body_hash:
        raise IdempotencyConflict(
            "This Idempotency-Key came with another body before.", hint="Use a new key for a new job."
        )
    return CreatedJob(job, repeated=True)


def store_job(
    session: Session,
    now: datetime,
    job: ResolvedJob,
    *,
    origin: Origin,
    idempotency: Idempotency | None,
    estimate: Estimate | None,
) -> JobUnit:
    """Insert the job and its first two events."""
    row = Job(
        id=new_id("cjob"),
        name=job.spec.name,
        task=job.spec.task,
        resolved=job.model_dump(mode="json"),
        status=JobStatus.QUEUED,
        status_reason="waits for a worker",
        labels=job.spec.labels,
        team=origin.team,
        priority=job.spec.priority,
        retry_of=origin.retry_of,
        traceparent=origin.traceparent,
        idempotency_key=idempotency.key if idempotency else None,
        body_hash=idempotency.body_hash if idempotency else None,
        estimate=None if estimate is None else estimate.model_dump(mode="json"),
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    session.flush()
    unit = JobUnit(session, now, row)
    unit.emit(EventType.JOB_CREATED, **({"retry_of": origin.retry_of} if origin.retry_of else {}))
    unit.emit(EventType.JOB_QUEUED)
    return unit


def store_stages(
    unit: JobUnit, stages: Sequence[PlannedStage], *, recompute: Container[str], reused: Mapping[str, ArtifactRef]
) -> None:
    """Insert the stages of the plan, and queue those that need no other's result.

    Where something may be taken over nothing is queued yet: `advance` says what is left to do.
    """
    rows = [
        {
            "id": new_id("stg"),
            "job_id": unit.job.id,
            "name": planned.name,
            "kind": planned.kind,
            "queue": planned.service,
            "position": position,
            "rank": 100 - unit.job.priority,
            "team": unit.job.team,
            "recompute": planned.name in recompute,
            "parameters": planned.parameters.model_dump(mode="json"),
            "inputs": input_plan(planned),
            "depends_on": list(planned.depends_on),
            "created_at": unit.now,
            **_beginning(planned, unit.now, waits=bool(reused)),
        }
        for position, planned in enumerate(stages)
    ]
    # Past the ORM: an object for each of many rows would take most of the time.
    unit.session.connection().execute(insert(Stage), rows)
    for row in rows:
        if row["status"] is StageStatus.READY:
            unit.session.add(Outbox(stage_id=row["id"], queue=row["queue"], created_at=unit.now, due_at=unit.now))


def _beginning(planned: PlannedStage, now: datetime, *, waits: bool) -> dict[str, Any]:
    inputs = {role: source for role, source in planned.inputs.items() if isinstance(source, ArtifactRef)}
    if waits or len(inputs) < len(planned.inputs):
        return {"status": StageStatus.PENDING, "key": None, "ready_at": None, "hinted_at": None}
    key = stage_key(planned.parameters, inputs)
    return {"status": StageStatus.READY, "key": key, "ready_at": now, "hinted_at": now}
