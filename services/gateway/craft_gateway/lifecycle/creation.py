"""Writes the rows of new jobs: several that come at once in one transaction."""

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from craft.contracts.documents.estimate import Estimate
from craft.contracts.events import EventType, StageStatus
from craft.contracts.public.accounts import DEFAULT_TEAM
from craft.contracts.spec.jobs import JobSpec, JobStatus
from craft.contracts.stages.artifacts import ArtifactRef, stage_key
from craft.errors import CraftError, IdempotencyConflict, QuotaExceeded, RequestInvalid
from craft.infra.ids import new_id
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.lifecycle.reuse import input_plan
from craft_gateway.lifecycle.transitions import advance
from craft_gateway.plan.stages import PlannedStage, ResolvedJob
from craft_gateway.scheduling.allowances import TeamAllowances, team_allowances, unfinished_jobs
from craft_gateway.store.database import Clock, lock_key, lock_keys
from craft_gateway.store.tables import Dataset, Job, Outbox, Stage


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The Idempotency-Key of a request, made one of its team's, and the SHA-256 (hex) of its body."""

    key: str
    body_hash: str

    @classmethod
    def of(cls, key: str | None, team: str, asked: JobSpec | str) -> "Idempotency | None":
        """From a request's key and body: bodies that differ in spelling only are the same. Raises RequestInvalid."""
        if key is None:
            return None
        return cls(f"{team} {_sha256(key)}", _sha256(asked if isinstance(asked, str) else _canonical(asked)))


def _canonical(spec: JobSpec) -> str:
    try:
        # The standard library's JSON, since rows may hold numbers that no 64 bits hold.
        return json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        raise RequestInvalid(
            "The body is nested too deeply.", hint="Leave columns that nobody reads out of its rows."
        ) from None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a job: its team, the caller, the request's W3C trace context, and the job that it retries.

    `recompute` names stages that run although their artifacts exist.
    """

    team: str = DEFAULT_TEAM
    actor: str | None = None
    traceparent: str | None = None
    retry_of: str | None = None
    recompute: frozenset[str] = frozenset()


NO_ORIGIN = Origin()
"""The default team, outside any trace, no retry."""


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """`repeated`: the same key and body came before, and this is that job. `row` as it is now."""

    row: Job
    repeated: bool = False

    @property
    def id(self) -> str:
        """The job's."""
        return self.row.id


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be stored with its stages. `reused`: by name, what they could take over a moment ago.

    `new_data`: its datasets must be there still; a retry may find what it needs among what is there already.
    """

    job: ResolvedJob
    stages: Sequence[PlannedStage]
    reused: Mapping[str, ArtifactRef]
    origin: Origin = NO_ORIGIN
    idempotency: Idempotency | None = None
    new_data: bool = False
    estimate: Estimate | None = None


def earlier_jobs(
    session: Session, asked: Sequence[Idempotency | None]
) -> list[CreatedJob | IdempotencyConflict | None]:
    """For each key the job that it made before, None, or an error where that job's body was another."""
    keys = [each.key for each in asked if each is not None]
    if not keys:
        return [None] * len(asked)
    found = {job.idempotency_key: job for job in session.exec(select(Job).where(col(Job.idempotency_key).in_(keys)))}
    return [_repeated(found[each.key], each) if each and each.key in found else None for each in asked]


def _repeated(job: Job, asked: Idempotency) -> CreatedJob | IdempotencyConflict:
    if job.body_hash != asked.body_hash:
        return IdempotencyConflict(
            "This Idempotency-Key came with another body before.", hint="Use a new key for a new job."
        )
    return CreatedJob(job, repeated=True)


def store_jobs(session: Session, clock: Clock, new: Sequence[NewJob]) -> list[CreatedJob | CraftError]:
    """Store each job, or find the one that its key made before, or give the error: then nothing of it is stored.

    Raises IntegrityError if another transaction stored one of their idempotency keys in between.
    """
    teams = team_allowances(session)
    _lock_quotas(session, new, teams)
    # Behind the lock: a request that came twice at once finds its own job in the last place.
    earlier = earlier_jobs(session, [each.idempotency for each in new])
    existing = lock_datasets(session, [each.job for each in new])
    refused: list[CraftError | None] = [missing_dataset(each.job, existing) if each.new_data else None for each in new]
    _refuse_beyond_quota(session, new, teams, earlier, refused)
    accepted: dict[str | int, NewJob] = {}
    for position, each in enumerate(new):
        if earlier[position] is None and refused[position] is None:
            accepted.setdefault(_own_name(each, position), each)
    transactions = dict(zip(accepted, _store(session, clock, list(accepted.values())), strict=True))
    outcomes: list[CreatedJob | CraftError] = []
    for position, each in enumerate(new):
        name = _own_name(each, position)
        if found := earlier[position] or refused[position]:
            outcomes.append(found)
        elif accepted[name] is each or each.idempotency is None:
            outcomes.append(CreatedJob(transactions[name].job))
        else:
            outcomes.append(_repeated(transactions[name].job, each.idempotency))
    return outcomes


def _lock_quotas(session: Session, new: Sequence[NewJob], teams: TeamAllowances) -> None:
    """Two gateways must not both give away a team's last place."""
    for team in sorted({each.origin.team for each in new}):
        if teams.allowance(team).max_unfinished_jobs is not None:
            lock_key(session, f"unfinished jobs of {team}")


def _refuse_beyond_quota(
    session: Session,
    new: Sequence[NewJob],
    teams: TeamAllowances,
    earlier: Sequence[CreatedJob | IdempotencyConflict | None],
    refused: list[CraftError | None],
) -> None:
    """Put a QuotaExceeded into `refused` for each job that its team's limit of unfinished jobs does not admit."""
    fresh = [place for place in range(len(new)) if earlier[place] is None and refused[place] is None]
    for team in sorted({new[place].origin.team for place in fresh}):
        most = teams.allowance(team).max_unfinished_jobs
        if most is None:
            continue
        left = most - unfinished_jobs(session, team)
        counted: set[str | int] = set()
        for place in fresh:
            if new[place].origin.team != team:
                continue
            counted.add(_own_name(new[place], place))
            if len(counted) > left:
                refused[place] = QuotaExceeded(
                    f"Team {team} has {most:,} unfinished jobs, and may have no more.",
                    hint="Submit again when some have ended, or have an operator raise max_unfinished_jobs.",
                )


def _own_name(new: NewJob, position: int) -> str | int:
    """Jobs with the same idempotency key have one name: the first of them is stored."""
    return new.idempotency.key if new.idempotency else position


def _store(session: Session, clock: Clock, new: Sequence[NewJob]) -> list[JobTransaction]:
    if not new:
        return []
    now = clock(session)
    transactions = [_new_job(session, now, each) for each in new]
    # All transactions take locks in the same order: PostgreSQL's unique keys are locks too.
    in_order: list[Job] = sorted([transaction.job for transaction in transactions], key=_idempotency_key)
    session.add_all(in_order)
    session.flush()
    for transaction, each in zip(transactions, new, strict=True):
        transaction.emit(EventType.JOB_CREATED, **({"retry_of": each.origin.retry_of} if each.origin.retry_of else {}))
        transaction.emit(EventType.JOB_QUEUED)
    rows = [row for transaction, each in zip(transactions, new, strict=True) for row in _stage_rows(transaction, each)]
    # Past the ORM: an object for each of many rows would take most of the time.
    session.connection().execute(insert(Stage), rows)
    for row in rows:
        if row["status"] is StageStatus.READY:
            session.add(Outbox(stage_id=row["id"], queue=row["queue"], created_at=now, due_at=now))
    lock_keys(session, {ref.key for each in new for ref in each.reused.values()})
    for transaction, each in zip(transactions, new, strict=True):
        if each.reused:
            advance(transaction, {ref.key: ref for ref in each.reused.values()})
    return transactions


def _idempotency_key(job: Job) -> str:
    return job.idempotency_key or ""


def _new_job(session: Session, now: datetime, new: NewJob) -> JobTransaction:
    origin = new.origin
    row = Job(
        id=new_id("cjob"),
        name=new.job.spec.name,
        task=new.job.spec.task,
        resolved=new.job.model_dump(mode="json"),
        status=JobStatus.QUEUED,
        status_reason="waits for a worker",
        labels=new.job.spec.labels,
        team=origin.team,
        priority=new.job.spec.priority,
        retry_of=origin.retry_of,
        traceparent=origin.traceparent,
        idempotency_key=new.idempotency.key if new.idempotency else None,
        body_hash=new.idempotency.body_hash if new.idempotency else None,
        estimate=None if new.estimate is None else new.estimate.model_dump(mode="json"),
        created_at=now,
        updated_at=now,
    )
    return JobTransaction(session, now, row, actor=origin.actor)


def _stage_rows(transaction: JobTransaction, new: NewJob) -> list[dict[str, Any]]:
    """The stages of the plan; those that need no other's result are ready.

    Where artifacts may be reused no stage is ready yet: `advance` finds what is left to do.
    """
    return [
        {
            "id": new_id("stg"),
            "job_id": transaction.job.id,
            "name": planned.name,
            "kind": planned.kind,
            "queue": planned.service,
            "position": position,
            "rank": 100 - transaction.job.priority,
            "team": transaction.job.team,
            "recompute": planned.name in new.origin.recompute,
            "parameters": planned.parameters.model_dump(mode="json"),
            "inputs": input_plan(planned),
            "depends_on": list(planned.depends_on),
            "created_at": transaction.now,
            **_beginning(planned, transaction.now, waits=bool(new.reused)),
        }
        for position, planned in enumerate(new.stages)
    ]


def _beginning(planned: PlannedStage, now: datetime, *, waits: bool) -> dict[str, Any]:
    inputs = {role: source for role, source in planned.inputs.items() if isinstance(source, ArtifactRef)}
    if waits or len(inputs) < len(planned.inputs):
        return {"status": StageStatus.PENDING, "key": None, "ready_at": None, "dispatch_at": None}
    key = stage_key(planned.parameters, inputs)
    return {"status": StageStatus.READY, "key": key, "ready_at": now, "dispatch_at": now}


_LOCKED_DATASETS = (
    columns(col(Dataset.id))
    .where(col(Dataset.id).in_(bindparam("wanted", expanding=True)))
    .order_by(col(Dataset.id))
    .with_for_update(read=True)
)


def lock_datasets(session: Session, jobs: Iterable[ResolvedJob]) -> AbstractSet[str]:
    """Ids of the jobs' datasets that exist; they cannot be deleted until the transaction ends."""
    wanted = {dataset_id for job in jobs for dataset_id in job.datasets}
    return {row.id for row in session.connection().execute(_LOCKED_DATASETS, {"wanted": list(wanted)})}


def missing_dataset(job: ResolvedJob, existing: Container[str]) -> RequestInvalid | None:
    """The error where one of the job's datasets is missing."""
    for dataset_id in job.datasets:
        if dataset_id not in existing:
            return RequestInvalid(
                f"There is no dataset {dataset_id}.", hint="`GET /craft/datasets` lists them.", param="dataset.id"
            )
    return None
