"""Gauges read at each scrape: waiting work and its age from the database, and the artifact store's free space."""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import case, func, or_
from sqlmodel import Session, col, select

from craft.contracts.events import StageStatus
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.kinds import Service
from craft.errors import CraftError
from craft.infra.storage.artifacts import QUARANTINE
from craft_gateway.store.column_types import UtcDateTime
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Delivery, Job, Outbox, Stage

_UNENDED_STAGES = tuple(status for status in StageStatus if not status.terminal)
_UNENDED_JOBS = tuple(status for status in JobStatus if not status.terminal)
_ON_ANY_QUEUE = col(Stage.queue).in_(Service)
"""This condition lets SQLite find each queue's rows of a status by the index; without it SQLite reads it all."""
_log = logging.getLogger("craft.metrics")


class DatabaseMetrics(Collector):
    """Gauges over one database. While the database is away, a scrape lacks them and has every other metric."""

    def __init__(self, database: Database, artifacts: Path) -> None:
        """`artifacts` is the store's folder."""
        self._database = database
        self._artifacts = artifacts

    def collect(self) -> Iterator[Metric]:
        """Read all gauges, in one transaction."""
        try:
            with self._database.read() as session:
                now = self._database.now(session)
                gauges = [
                    _stages(session),
                    _oldest_ready(session, now),
                    _jobs(session),
                    *_outbox(session, now),
                    *_webhooks(session, now),
                ]
        except CraftError as error:
            _log.warning("gauges_not_read", extra={"error": error.message})
        else:
            yield from gauges
        yield from self._free_bytes()
        yield from self._damaged()

    def _damaged(self) -> Iterator[Metric]:
        help_ = "Damaged artifacts that were set aside, and have not expired since."
        gauge = GaugeMetricFamily("craft_artifacts_damaged", help_)
        try:
            with os.scandir(self._artifacts / QUARANTINE) as entries:
                gauge.add_metric((), sum(1 for _ in entries))
        except OSError:
            return  # the folder does not exist yet
        yield gauge

    def _free_bytes(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily("craft_artifact_store_free_bytes", "Space left for artifacts.")
        try:
            gauge.add_metric((), shutil.disk_usage(self._artifacts).free)
        except OSError:
            return  # the folder does not exist yet
        yield gauge


def _stages(session: Session) -> Metric:
    gauge = GaugeMetricFamily("craft_stages", "Stages that have not ended.", labels=("queue", "status"))
    rows = session.exec(
        select(Stage.queue, Stage.status, func.count())
        # Not the stages that have ended: their number only grows, and so would the time of a scrape.
        .where(_ON_ANY_QUEUE, col(Stage.status).in_(_UNENDED_STAGES))
        .group_by(col(Stage.queue), col(Stage.status))
    )
    counts = {(queue, status): count for queue, status, count in rows}
    for queue in Service:
        for status in _UNENDED_STAGES:
            gauge.add_metric((queue.value, status.value), counts.get((queue, status), 0))
    return gauge


def _oldest_ready(session: Session, now: datetime) -> Metric:
    gauge = GaugeMetricFamily("craft_oldest_ready_seconds", "The longest wait of a ready stage.", labels=("queue",))
    # The pause after a failure does not count as a wait for a worker.
    paused = col(Stage.not_before) > col(Stage.ready_at)
    free_since = case((paused, col(Stage.not_before)), else_=col(Stage.ready_at))
    rows = session.exec(
        select(Stage.queue, func.min(free_since, type_=UtcDateTime()))
        .where(
            _ON_ANY_QUEUE,
            Stage.status == StageStatus.READY,
            or_(col(Stage.not_before).is_(None), col(Stage.not_before) <= now),
        )
        .group_by(col(Stage.queue))
    )
    oldest = {queue: since for queue, since in rows if since is not None}
    for queue in Service:
        waited = (now - oldest[queue]).total_seconds() if queue in oldest else 0.0
        gauge.add_metric((queue.value,), max(0.0, waited))
    return gauge


def _jobs(session: Session) -> Metric:
    gauge = GaugeMetricFamily("craft_jobs", "Jobs that have not ended.", labels=("status", "team"))
    for status, team, count in session.exec(
        select(Job.status, Job.team, func.count())
        .where(col(Job.status).in_(_UNENDED_JOBS))
        .group_by(col(Job.status), col(Job.team))
    ):
        gauge.add_metric((JobStatus(status).value, team), count)
    return gauge


def _outbox(session: Session, now: datetime) -> Iterable[Metric]:
    due = (col(Outbox.sent_at).is_(None), col(Outbox.due_at) <= now)
    count, oldest = session.exec(
        select(func.count(), func.min(Outbox.due_at, type_=UtcDateTime())).select_from(Outbox).where(*due)
    ).one()
    age = max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
    return (
        GaugeMetricFamily("craft_outbox_unsent", "Dispatch messages that are due and were not sent.", value=count),
        GaugeMetricFamily("craft_outbox_oldest_unsent_seconds", "The time since the oldest was due.", value=age),
    )


def _webhooks(session: Session, now: datetime) -> Iterable[Metric]:
    count, oldest = session.exec(
        select(func.count(), func.min(Delivery.created_at, type_=UtcDateTime()))
        .select_from(Delivery)
        .where(col(Delivery.ended_at).is_(None))
    ).one()
    age = max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
    help_of_age = "The age of the oldest undelivered message."
    return (
        GaugeMetricFamily("craft_webhook_undelivered", "Messages neither delivered nor given up.", value=count),
        GaugeMetricFamily("craft_webhook_oldest_undelivered_seconds", help_of_age, value=age),
    )
