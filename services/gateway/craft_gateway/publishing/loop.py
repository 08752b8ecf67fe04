"""Publishes due adapters, each under a lease and a fence, so that several loops may run."""

import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, update
from sqlmodel import Session, col, select

from craft.contracts.events import EventType
from craft.contracts.problems import StageError
from craft.contracts.public.publishing import PublicationStatus, PublishTarget
from craft.errors import CraftError, Internal, LeaseLost, PublishingRefused, WorkerLost
from craft.infra.backoff import Jitter, exponential_backoff
from craft.infra.settings.publishing import PublishingSettings
from craft.infra.storage.artifacts import ArtifactStore
from craft_gateway.job_views.stored_results import StoredResults
from craft_gateway.lifecycle.job_transaction import JobTransaction
from craft_gateway.plan.stages import ResolvedJob
from craft_gateway.publishing.package import Published, Publisher, package_of
from craft_gateway.publishing.publications import event_data
from craft_gateway.store.database import Clock, Database
from craft_gateway.store.tables import Dataset, Job, Publication

_TARGET: TypeAdapter[PublishTarget] = TypeAdapter(PublishTarget)
_HEARTBEATS_IN_A_LEASE = 4
_log = logging.getLogger("craft.publishing")


@dataclass(frozen=True, slots=True)
class _Claimed:
    row: Publication
    job: Job
    dataset: Dataset | None


class PublicationLoop:
    """Publishes one adapter at a time. `publishers`, by kind, are those that this installation is connected to."""

    def __init__(
        self,
        database: Database,
        store: ArtifactStore,
        publishers: Mapping[str, Publisher],
        settings: PublishingSettings,
        *,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`jitter` draws from [0, 1): pauses after failures differ, so that publishers do not return all at once."""
        self._database = database
        self._results = StoredResults(database, store)
        self._publishers = publishers
        self._settings = settings
        self._jitter = jitter

    def step(self) -> bool:
        """Attempt the publication that is due next; False if none is. A failed attempt is recorded, not raised."""
        if not self._any_due():
            return False
        claimed = self._claim()
        if claimed is None:
            return False
        try:
            with self._lease(claimed.row):
                published = self._publish(claimed)
        except CraftError as error:
            self._settle_failure(claimed.row, error)
        # An error of any library must end this attempt and not the loop.
        except Exception as error:
            _log.exception("publishing_broke", extra={"publication": claimed.row.id})
            self._settle_failure(claimed.row, Internal(f"{type(error).__name__}: {error}"[:500]))
        else:
            self._settle_success(claimed.row, published)
        return True

    def _any_due(self) -> bool:
        with self._database.read() as session:
            query = select(Publication.id).where(*_due(session, self._database.now)).limit(1)
            return session.exec(query).first() is not None

    def _claim(self) -> _Claimed | None:
        with self._database.write() as session:
            query = select(Publication).where(*_due(session, self._database.now)).order_by(col(Publication.due_at))
            row = session.exec(query.limit(1).with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            row.status = PublicationStatus.RUNNING
            row.attempts += 1
            row.fence += 1
            row.due_at = self._database.now(session) + timedelta(seconds=self._settings.lease_seconds)
            job = session.get_one(Job, row.job_id)
            resolved = ResolvedJob.model_validate(job.resolved)
            return _Claimed(row, job, session.get(Dataset, resolved.spec.dataset.id))

    def _publish(self, claimed: _Claimed) -> Published:
        row = claimed.row
        if row.attempts > self._settings.max_attempts:
            raise WorkerLost(f"Every one of {row.attempts - 1} attempts ended with its process, or was cut off.")
        target = _TARGET.validate_python(row.target)
        publisher = self._publishers.get(target.kind)
        if publisher is None:
            raise PublishingRefused(
                f"The coordinator is not connected to any {target.kind}.",
                hint=f"Give it the same CRAFT_PUBLISHING__{target.kind.upper()}__… as the gateway; then publish again.",
            )
        package = package_of(row, claimed.job, claimed.dataset, target, self._results)
        return publisher.publish(package, target)

    @contextmanager
    def _lease(self, row: Publication) -> Iterator[None]:
        """Extend the lease on the row until the block ends, however long an upload takes."""
        ended = threading.Event()

        def extend_until_ended() -> None:
            while not ended.wait(self._settings.lease_seconds / _HEARTBEATS_IN_A_LEASE):
                try:
                    self._extend(row)
                except LeaseLost:
                    return
                # The database does not answer for a moment; the lease outlasts some heartbeats.
                except CraftError as error:
                    _log.warning("publishing_lease", extra={"publication": row.id, "error": error.message[:300]})

        heartbeat = threading.Thread(target=extend_until_ended, name=f"lease of {row.id}", daemon=True)
        heartbeat.start()
        try:
            yield
        finally:
            ended.set()
            heartbeat.join()

    def _extend(self, row: Publication) -> None:
        with self._database.write() as session:
            until = self._database.now(session) + timedelta(seconds=self._settings.lease_seconds)
            _move(session, row, status=PublicationStatus.RUNNING, due_at=until)

    def _settle_success(self, row: Publication, published: Published) -> None:
        self._settle(
            row,
            EventType.ADAPTER_PUBLISHED,
            {"url": published.url, "version": published.version},
            status=PublicationStatus.SUCCEEDED,
            url=published.url,
            version=published.version,
            error=None,
        )

    def _settle_failure(self, row: Publication, error: CraftError) -> None:
        shown = StageError.of(error).model_dump(mode="json")
        _log.warning(
            "publishing_failed", extra={"publication": row.id, "attempt": row.attempts, "error": error.message[:300]}
        )
        if error.retryable and row.attempts < self._settings.max_attempts:
            self._settle(row, None, {}, status=PublicationStatus.QUEUED, error=shown)
        else:
            failed = EventType.ADAPTER_PUBLISH_FAILED
            self._settle(row, failed, {"error": shown}, status=PublicationStatus.FAILED, error=shown)

    def _settle(self, row: Publication, event: EventType | None, data: Mapping[str, Any], **values: Any) -> None:
        """Record how the attempt ended, unless another publisher has the row by now."""
        with self._database.write() as session:
            transaction = JobTransaction.open(session, self._database.now, row.job_id)
            if values["status"] is PublicationStatus.QUEUED:
                values["due_at"] = transaction.now + self._pause(row.attempts)
            else:
                values["finished_at"] = transaction.now
            try:
                _move(session, row, **values)
            except LeaseLost:
                _log.warning("publishing_lease_lost", extra={"publication": row.id})
                return
            if event is not None:
                transaction.emit(event, **event_data(row), **data)

    def _pause(self, attempts: int) -> timedelta:
        first, longest = self._settings.first_pause_seconds, self._settings.longest_pause_seconds
        jitter = Jitter(low=0.5, high=1.0, draw=self._jitter())
        return timedelta(seconds=exponential_backoff(attempts, first=first, longest=longest, jitter=jitter))


def _due(session: Session, clock: Clock) -> tuple[ColumnElement[bool], ...]:
    """Publications that wait and whose pause is over, and those that run and whose lease has expired."""
    unfinished = (PublicationStatus.QUEUED, PublicationStatus.RUNNING)
    return (col(Publication.status).in_(unfinished), col(Publication.due_at) <= clock(session))


def _move(session: Session, row: Publication, **values: Any) -> None:
    """Compare-and-set: the row must still run under the fence that was claimed. Raises LeaseLost."""
    changed = session.connection().execute(
        update(Publication)
        .where(
            col(Publication.id) == row.id,
            col(Publication.fence) == row.fence,
            col(Publication.status) == PublicationStatus.RUNNING,
        )
        .values(**values)
    )
    if changed.rowcount != 1:
        raise LeaseLost(f"The publication {row.id} has changed hands.")
