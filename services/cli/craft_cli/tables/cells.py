"""Cells of tables for a terminal: texts, times, sizes and percentages."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from craft.contracts.documents.evaluation import EstimateView, MetricSet
from craft.contracts.findings import Finding

METRICS = ("pc", "pw", "pr", "ths", "over_refusal")
METRIC_HEADINGS = ("Pc", "Pw", "Pr", "THS", "over-refusal")
_RIGHT_ALIGNED = {
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


def text_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of plain texts: the names that users give contain no markup. Ids are never cut short."""
    table = Table()
    for heading in headings:
        is_id = heading in {"id", "job"}
        table.add_column(
            heading,
            justify="right" if heading in _RIGHT_ALIGNED else "left",
            no_wrap=is_id,
            min_width=31 if heading == "id" else None,
        )
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return table


def time_of(moment: datetime | None) -> str:
    """A moment to the second; empty for None."""
    return "" if moment is None else moment.isoformat(timespec="seconds")


def size(count: int) -> str:
    """Bytes in the largest unit that leaves a whole number before the point."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{count} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def percent(estimate: EstimateView) -> str:
    """A share in percent with its interval; a dash where it is undefined."""
    if estimate.value is None:
        return "–"
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def finding_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """A line for each finding, with its places, its excerpts and its hint on further lines."""
    for each in findings:
        mark = "accepted" if each.accepted else each.severity.value
        yield f"[{mark}] {each.code.value}: {each.message}"
        shown = ", ".join(map(str, each.lines)) + (", …" if each.count > len(each.lines) else "")
        if each.lines:
            yield f"  Lines: {shown}"
        yield from (f"  For example: {printable(example)}" for example in each.examples)
        if each.hint:
            yield f"  Hint: {each.hint}"


def printable(text: str) -> str:
    """Text from a dataset or a model without characters that steer a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def metric_cells(metrics: MetricSet) -> list[str]:
    """One cell for each of METRICS."""
    return [two_lines(getattr(metrics, name)) for name in METRICS]


def two_lines(estimate: EstimateView) -> str:
    """`percent` with the interval on a line of its own, so that the table fits a terminal of 80 columns."""
    return escape(percent(estimate).replace(" [", "\n["))
