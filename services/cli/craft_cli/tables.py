"""Results as tables for a terminal."""

from rich.table import Table

from craft.contracts.rest_scoring import EstimateView, MetricSet, ReportDocument, ReportSet
from craft.contracts.views import JobView

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
