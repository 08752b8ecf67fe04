"""Results as tables for a terminal."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from craft.contracts.documents.evaluation import EstimateView, MetricSet
from craft.contracts.documents.report import ReportDocument, ReportSet
from craft.contracts.openai.chat import ServedModel
from craft.contracts.public.accounts import AuditEntry, KeyView, TeamView
from craft.contracts.public.datasets import DatasetView
from craft.contracts.public.jobs import ArtifactView, AttemptView, DeviceView, EventView, JobView, QueueEntry, StageView
from craft.contracts.public.retention import ExpiredView

_NAMES = {"initial_basic": "M0 BASIC", "initial_refuse": "M0 REFUSE"}
_COLUMNS = ("pc", "pw", "pr", "ths", "over_refusal")
_HEADINGS = ("Pc", "Pw", "Pr", "THS", "over-refusal")


def results(report_set: ReportSet) -> Table:
    """The headline table of one evaluation set, in percent with 95 % intervals."""
    table = Table(title=f"{report_set.name}: {report_set.questions} questions, percent [95 % interval]")
    table.add_column("model")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for name, metrics in report_set.models.items():
        table.add_row(_NAMES.get(name, name), *_cells(metrics.micro))
    return table


def comparisons(report: ReportDocument) -> list[str]:
    """What the report says of each pair, in words."""
    return [f"{c.model} against {_NAMES.get(c.against, c.against)}: {c.verdict}" for c in report.sets[0].comparisons]


def _cells(metrics: MetricSet) -> list[str]:
    # The interval on a line of its own, so that a terminal of 80 columns holds the table.
    return [percent(getattr(metrics, name)).replace(" [", "\n[") for name in _COLUMNS]


def percent(estimate: EstimateView) -> str:
    """A share as percent with its interval; a dash where it is undefined."""
    if estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


_RIGHT = {
    "attempt",
    "attempts",
    "waited",
    "took",
    "size",
    "rows",
    "percent",
    "position",
    "weight",
    "running",
    "number",
    "seconds",
}


def lined(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of texts as they are: what users name things is no markup. Whatever is cut short, ids are not."""
    table = Table()
    for heading in headings:
        is_id = heading in {"id", "job"}
        table.add_column(
            heading,
            justify="right" if heading in _RIGHT else "left",
            no_wrap=is_id,
            min_width=31 if heading == "id" else None,
        )
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return table


def time_of(moment: datetime | None) -> str:
    """A moment to the second; nothing where there is none."""
    return "" if moment is None else moment.isoformat(timespec="seconds")


def jobs(views: Sequence[JobView]) -> Table:
    """A line for each job."""
    return lined(
        ("id", "name", "status", "percent", "stage", "created"),
        (
            (v.id, v.name, v.status.value, f"{v.progress.percent:.0f} %", v.progress.stage, time_of(v.created_at))
            for v in views
        ),
    )


def stages(views: Sequence[StageView]) -> Table:
    """A line for each stage of a job."""
    return lined(
        ("stage", "status", "took"),
        (
            (v.name, v.status.value, "reused" if v.reused else "" if v.seconds is None else f"{v.seconds:.1f} s")
            for v in views
        ),
    )


def attempts(views: Sequence[AttemptView]) -> Table:
    """A line for each claim of a stage."""
    return lined(
        ("stage", "attempt", "outcome", "waited", "took", "worker", "error"),
        (
            (
                v.stage,
                v.attempt,
                v.outcome.value,
                f"{v.waited_seconds:.1f} s",
                "" if v.seconds is None else f"{v.seconds:.1f} s",
                v.owner,
                "" if v.error is None else f"{v.error.code}: {v.error.message}",
            )
            for v in views
        ),
    )


def events(views: Sequence[EventView]) -> Table:
    """A line for each event."""
    rows = ((v.seq, time_of(v.created_at), v.type.value, v.data.get("stage") or "") for v in views)
    return lined(("number", "at", "event", "stage"), rows)


def artifacts(views: Sequence[ArtifactView]) -> Table:
    """A line for each artifact."""
    rows = ((v.stage, v.kind.value, v.key[:12], size(v.bytes), time_of(v.expires_at)) for v in views)
    return lined(("stage", "kind", "key", "size", "expires"), rows)


def datasets(views: Sequence[DatasetView]) -> Table:
    """A line for each dataset."""
    rows = ((v.id, v.name, v.task.value, f"{v.rows:,}", time_of(v.created_at)) for v in views)
    return lined(("id", "name", "task", "rows", "created"), rows)


def keys(views: Sequence[KeyView]) -> Table:
    """A line for each key."""
    rows = (
        (v.id, v.name, v.role.value, "revoked" if v.revoked_at else "", time_of(v.expires_at), time_of(v.last_used_at))
        for v in views
    )
    return lined(("id", "name", "role", "state", "ends", "last used"), rows)


def teams(views: Sequence[TeamView]) -> Table:
    """A line for each team."""
    rows = (
        (v.name, f"{v.weight:g}", _limit(v.max_running_jobs), _limit(v.gpu_seconds_per_day), v.running_jobs)
        for v in views
    )
    return lined(("team", "weight", "most jobs", "GPU seconds a day", "running"), rows)


def audit(views: Sequence[AuditEntry]) -> Table:
    """A line for each entry."""
    rows = ((time_of(v.created_at), v.actor or "the system", v.type, v.subject) for v in views)
    return lined(("at", "who", "what", "of"), rows)


def queue(views: Sequence[QueueEntry]) -> Table:
    """A line for each unfinished job."""
    rows = ((v.job_id, v.name, v.status.value, v.team, v.position, v.reason) for v in views)
    return lined(("id", "name", "status", "team", "position", "why"), rows)


def devices(views: Sequence[DeviceView]) -> Table:
    """A line for each device that is held."""
    return lined(("device", "job", "stage", "since"), ((v.name, v.job_id, v.stage, time_of(v.since)) for v in views))


def models(views: Sequence[ServedModel]) -> Table:
    """A line for each deployed adapter."""
    return lined(("id", "base model"), ((v.id, v.parent) for v in views))


def expired(views: Sequence[ExpiredView]) -> Table:
    """A line for each thing in the artifact store whose time is over."""
    rows = (
        (
            v.retention_class.value,
            None if v.kind is None else v.kind.value,
            (v.key or "")[:12],
            size(v.bytes),
            f"{v.last_used_at:%Y-%m-%d %H:%M}",
            f"{v.expires_at:%Y-%m-%d %H:%M}",
        )
        for v in views
    )
    return lined(("class", "made by", "key", "size", "last used", "expired"), rows)


def _limit(value: float | None) -> str:
    return "no limit" if value is None else f"{value:g}"


def size(count: int) -> str:
    """Bytes in the largest unit that leaves a whole number before the point."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{count} B" if units[0] == "B" else f"{value:.1f} {units[0]}"
