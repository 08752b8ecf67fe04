"""Tables of the queue and the devices."""

from collections.abc import Sequence

from rich.table import Table

from craft.contracts.public.jobs import DeviceView, QueueEntry
from craft_cli.tables.cells import text_table, time_of


def queue(views: Sequence[QueueEntry]) -> Table:
    """One row for each unfinished job."""
    rows = ((v.job_id, v.name, v.status.value, v.team, v.position, v.reason) for v in views)
    return text_table(("id", "name", "status", "team", "position", "why"), rows)


def devices(views: Sequence[DeviceView]) -> Table:
    """One row for each device that a stage uses."""
    rows = ((v.name, v.job_id, v.stage, time_of(v.since)) for v in views)
    return text_table(("device", "job", "stage", "since"), rows)
