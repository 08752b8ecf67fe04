"""What waits and how long, as the database has it at a scrape, and the space that is left for artifacts."""

import logging
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
from craft_gateway.store.column_types import UtcDateTime
from craft_gateway.store.database import Database
from craft_gateway.store.tables import Delivery, Job, Outbox, Stage

_UNENDED_STAGES = tuple(status for status in StageStatus if not status.terminal)
_UNENDED_JOBS = tuple(status for status in JobStatus if not status.terminal)
_ON_ANY_QUEUE = col(Stage.queue).in_(Service)
"""With it the index leads to each queue's rows of a status; without it SQLite reads the whole index."""
_log = logging.getLogger("craft.metrics")


class DatabaseMetrics(Collector):
    """Gauges over one database. A scrape while it is away has no gauges, and every other metric."""

    def __init__(self, database: Database, artifacts: Path) -> None:
        """`artifacts` is the store's folder."""
        self._database = database
        self._artifacts = artifacts

    def collect(self) -> Iterator[Metric]:
        """Ask once."""
        try:
            with self._database.read() as session:
                now = self._database.now(session)
                found = [
                    _stages(session),
                    _oldest_ready(session, now),
                    _jobs(session),
                    *_outbox(session, now),
                    *_webhooks(session, now),
                ]
        except CraftError as error:
            _log.warning("gauges_not_read", extra={"error": error.message})
        else:
            yield from found
        yield from self._free_bytes()

    def _free_bytes(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily("craft_artifact_store_free_bytes", "Space left for artifacts.")
        try:
            gauge.add_metric((), shutil.disk_usage(self._artifacts).free)
        except OSError:
            return  # not made yet
        yield gauge


def _stages(session: Session) -> Metric:
    gauge = GaugeMetricFamily("craft_stages", "Stages that have not ended.", labels=("queue", "status"))
    rows = session.exec(
        select(Stage.queue, Stage.status, func.count())
        # Those that have ended are never fewer again: each scrape would take longer than the one before.
        .where(_ON_ANY_QUEUE, col(Stage.status).in_(_UNENDED_STAGES))
        .group_by(col(Stage.queue), col(Stage.status))
    )
    counts = {(queue, status): count for queue, status, count in rows}
    for queue in Service:
        for status in _UNENDED_STAGES:
            gauge.add_metric((queue.value, status.value), counts.get((queue, status), 0))
    return gauge


def _oldest_ready(session: Session, now: datetime) -> Metric:
    gauge = GaugeMetricFamily(
        "craft_oldest_ready_seconds", "How long the stage has waited that waits longest.", labels=("queue",)
    )
    # The pause after a failure is no wait for a worker.
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
        GaugeMetricFamily("craft_outbox_unsent", "Hints that are due and were not sent.", value=count),
        GaugeMetricFamily("craft_outbox_oldest_unsent_seconds", "How long the oldest of them is due.", value=age),
    )


def _webhooks(session: Session, now: datetime) -> Iterable[Metric]:
    count, oldest = session.exec(
        select(func.count(), func.min(Delivery.created_at, type_=UtcDateTime()))
        .select_from(Delivery)
        .where(col(Delivery.ended_at).is_(None))
    ).one()
    age = max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
    told = "How long the oldest of them waits."
    return (
        GaugeMetricFamily("craft_webhook_undelivered", "Messages that were neither taken nor given up.", value=count),
        GaugeMetricFamily("craft_webhook_oldest_undelivered_seconds", told, value=age),
    )
