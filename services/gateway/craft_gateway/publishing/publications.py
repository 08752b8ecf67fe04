"""Requests and shows publications of adapters; `loop.py` carries them out."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from craft.contracts.events import EventType
from craft.contracts.problems import StageError
from craft.contracts.public.publishing import HubTarget, MlflowTarget, PublicationStatus, PublicationView, PublishTarget
from craft.contracts.stages.artifacts import ArtifactRef, canonical_json
from craft.contracts.stages.names import evaluate_stage, package_stage
from craft.core.strategies import Strategy
from craft.errors import Conflict, Forbidden
from craft.infra.ids import new_id
from craft.infra.settings.publishing import PublishingSettings
from craft_gateway.job_views.reader import JobReader
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.retention.uses import lock_artifact
from craft_gateway.store.database import Database, lock_key
from craft_gateway.store.tables import Publication

_LIVE = tuple(status for status in PublicationStatus if status is not PublicationStatus.FAILED)


@dataclass(frozen=True, slots=True)
class Requested:
    """A requested publication. `repeated`: an earlier request was the same and has not failed."""

    view: PublicationView
    repeated: bool


class Publications:
    """The publications of jobs' adapters."""

    def __init__(self, database: Database, reader: JobReader, settings: PublishingSettings) -> None:
        self._database = database
        self._reader = reader
        self._settings = settings

    def request(self, job_id: str, strategy: Strategy, target: PublishTarget) -> Requested:
        """Queue a publication of the adapter.

        The same job, strategy and target are the same publication; a failed one is queued again. Raises NotFound;
        Conflict if the adapter is not finished, this installation is not connected to the target's kind of place
        or another team publishes there; Forbidden for an owner that is not allowed.
        """
        self._reader.last_event(job_id)  # raises NotFound for an unknown job, whatever the settings
        self._check_allowed(target)
        package = self._reader.output(job_id, package_stage(strategy))
        evaluation = self._reader.output(job_id, evaluate_stage(strategy))
        with self._database.write() as session:
            transaction = JobTransaction.open(session, self._database.now, job_id)
            row = _find(session, job_id, strategy, target)
            if row is not None and row.status in _LIVE:
                return Requested(publication_view(row), repeated=True)
            _check_destination(session, transaction.job.team, target)
            for ref in sorted((package, evaluation), key=lambda ref: ref.key):
                lock_artifact(session, ref)
            row = row or _new_row(transaction, strategy, target, package, evaluation)
            _queue(row, transaction.now)
            session.add(row)
            transaction.emit(EventType.ADAPTER_PUBLISHING, **event_data(row))
            return Requested(publication_view(row), repeated=False)

    def listed(self, job_id: str) -> Sequence[PublicationView]:
        """Return a job's publications, oldest first. Raises NotFound."""
        self._reader.last_event(job_id)
        with self._database.read() as session:
            query = select(Publication).where(Publication.job_id == job_id).order_by(col(Publication.id))
            return [publication_view(row) for row in session.exec(query)]

    def _check_allowed(self, target: PublishTarget) -> None:
        if getattr(self._settings, target.kind) is None:
            setting = f"CRAFT_PUBLISHING__{target.kind.upper()}__{_FIRST_SETTING[target.kind]}"
            raise Conflict(
                f"This installation is not connected to {_PLACE[target.kind]}.", hint=f"Have an operator set {setting}."
            )
        hub = self._settings.hub
        if isinstance(target, HubTarget) and hub is not None and hub.owners:
            owner = target.repo.partition("/")[0]
            if owner.lower() not in {name.lower() for name in hub.owners}:
                raise Forbidden(
                    f"Nothing may be published below {owner}.",
                    hint=f"Allowed here: {', '.join(hub.owners)} (CRAFT_PUBLISHING__HUB__OWNERS).",
                    param="target.repo",
                )


_PLACE = {"mlflow": "an MLflow server", "hub": "a model hub"}
_FIRST_SETTING = {"mlflow": "TRACKING_URI", "hub": "TOKEN"}


def destination_of(target: PublishTarget) -> str:
    """Return the kind of place and the name there. A hub ignores the case of names."""
    name = target.model_name if isinstance(target, MlflowTarget) else target.repo.lower()
    return f"{target.kind}:{name}"


def event_data(row: Publication) -> dict[str, object]:
    """Return the data that every event of the publication has."""
    return {"publication": row.id, "strategy": row.strategy.value, "target": row.destination}


def publication_view(row: Publication) -> PublicationView:
    """Return the publication as the API shows it."""
    return PublicationView.model_validate(
        {
            "id": row.id,
            "job_id": row.job_id,
            "strategy": row.strategy,
            "target": row.target,
            "status": row.status,
            "url": row.url,
            "version": row.version,
            "digest": row.artifact_digest,
            "error": None if row.error is None else StageError.model_validate(row.error),
            "attempts": row.attempts,
            "next_attempt_at": row.due_at if row.status is PublicationStatus.QUEUED else None,
            "created_at": row.created_at,
            "finished_at": row.finished_at,
        }
    )


def _new_row(
    transaction: JobTransaction,
    strategy: Strategy,
    target: PublishTarget,
    package: ArtifactRef,
    evaluation: ArtifactRef,
) -> Publication:
    return Publication(
        id=new_id("publ"),
        job_id=transaction.job.id,
        team=transaction.job.team,
        strategy=strategy,
        target=target.model_dump(mode="json"),
        target_hash=_hash(target),
        destination=destination_of(target),
        artifact_key=package.key,
        artifact_digest=package.digest,
        evaluation_key=evaluation.key,
        evaluation_digest=evaluation.digest,
        status=PublicationStatus.QUEUED,
        due_at=transaction.now,
        created_at=transaction.now,
    )


def _queue(row: Publication, now: datetime) -> None:
    row.status = PublicationStatus.QUEUED
    row.attempts, row.due_at = 0, now
    row.error = row.finished_at = None


def _hash(target: PublishTarget) -> str:
    return hashlib.sha256(canonical_json(target.model_dump(mode="json"))).hexdigest()


def _find(session: Session, job_id: str, strategy: Strategy, target: PublishTarget) -> Publication | None:
    query = select(Publication).where(
        Publication.job_id == job_id, Publication.strategy == strategy, Publication.target_hash == _hash(target)
    )
    # The job is locked; the row needs its own lock, because a publisher may hold it.
    return session.exec(query.with_for_update()).one_or_none()


def _check_destination(session: Session, team: str, target: PublishTarget) -> None:
    """Check that no other team publishes to the destination. Raises Conflict.

    All teams use the installation's credentials: without this check a team could overwrite what another published.
    """
    destination = destination_of(target)
    lock_key(session, f"publish {destination}")
    other = select(Publication.id).where(
        Publication.destination == destination, Publication.team != team, col(Publication.status).in_(_LIVE)
    )
    if session.exec(other.limit(1)).first() is not None:
        raise Conflict("Another team publishes under that name.", hint="Choose another name.")
