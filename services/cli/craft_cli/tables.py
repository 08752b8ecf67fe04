"""Results as tables for a terminal."""

from rich.markup import escape
from rich.table import Table

from craft.contracts.gc import ExpiredView
from craft.contracts.rest_scoring import EstimateView, MetricSet, ReportDocument, ReportSet
from craft.contracts.views import AttemptView, JobView

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


def attempts(views: list[AttemptView]) -> Table:
    """A line for each claim of a stage."""
    table = Table()
    for heading in ("stage", "attempt", "outcome", "waited", "took", "worker", "error"):
        table.add_column(heading, justify="right" if heading in {"attempt", "waited", "took"} else "left")
    for view in views:
        took = "" if view.seconds is None else f"{view.seconds:.1f} s"
        error = "" if view.error is None else f"{view.error.code}: {view.error.message}"
        times = (f"{view.waited_seconds:.1f} s", took)
        table.add_row(view.stage, str(view.attempt), view.outcome, *times, view.owner, escape(error))
    return table


def expired(views: list[ExpiredView]) -> Table:
    """A line for each thing in the artifact store whose time is over."""
    table = Table()
    for heading in ("class", "made by", "key", "size", "last used", "expired"):
        table.add_column(heading, justify="right" if heading == "size" else "left")
    for view in views:
        moments = [f"{moment:%Y-%m-%d %H:%M}" for moment in (view.last_used_at, view.expires_at)]
        table.add_row(view.retention_class, view.kind or "", (view.key or "")[:12], size(view.bytes), *moments)
    return table


def size(count: int) -> str:
    """Bytes in the largest unit that leaves a whole number before the point."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{count} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def jobs(views: list[JobView]) -> Table:
    """A line a job."""
    table = Table()
    for heading in ("id", "name", "status", "percent", "stage", "created"):
        # Whatever is cut short, the id is what people copy.
        table.add_column(heading, no_wrap=heading == "id", min_width=31 if heading == "id" else None)
    for view in views:
        cells = (view.id, view.name or "", view.status, f"{view.progress.percent:.0f} %", view.progress.stage or "")
        table.add_row(*cells, view.created_at.isoformat(timespec="seconds"))
    return table
