"""Tables of the queue and the devices."""

from collections.abc import Sequence
from datetime import datetime

from craft.contracts.public.jobs import DeviceView, QueueEntry
from craft_cli.tables.cells import age, text_table
from craft_cli.tables.plain import PlainTable


def queue(views: Sequence[QueueEntry]) -> PlainTable:
    """One row for each unfinished job."""
    rows = ((v.name, v.status.value, v.team, v.position, v.job_id, v.reason) for v in views)
    return text_table(("name", "status", "team", "ahead", "id", "why"), rows)


def devices(views: Sequence[DeviceView], *, now: datetime) -> PlainTable:
    """One row for each device that a stage uses."""
    rows = ((v.name, v.job_id, v.stage, age(v.since, now)) for v in views)
    return text_table(("device", "job", "stage", "for"), rows)
