"""Cells of tables for a terminal: texts, times, sizes and percentages."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from craft.contracts.documents.evaluation import EstimateView, MetricSet
from craft.contracts.findings import Finding
from craft_cli.tables.plain import Fit, PlainTable, TextColumn

METRICS = ("pc", "pw", "pr", "ths", "over_refusal")
METRIC_HEADINGS = ("right Pc", "wrong Pw", "refused Pr", "THS", "over-refusal")
_RIGHT_ALIGNED = {
    "age",
    "attempt",
    "attempts",
    "ahead",
    "waited",
    "took",
    "size",
    "rows",
    "done",
    "weight",
    "running",
    "number",
    "seconds",
    "units",
    "takes",
    "from past stages",
}
_FITS = {
    "name": Fit.CUT,
    "worker": Fit.CUT,
    "why": Fit.BELOW,
    "error": Fit.BELOW,
    "question": Fit.WRAPPED,
    "answers": Fit.WRAPPED,
}
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def text_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    fits: Mapping[str, Fit] | None = None,
) -> PlainTable:
    """A table of plain texts. By their headings, numbers stand at the right, and `fits` says what may be cut."""
    known = {**_FITS, **(fits or {})}
    columns = (TextColumn(name, known.get(name, Fit.WHOLE), name in _RIGHT_ALIGNED) for name in headings)
    texts = (tuple("" if cell is None else str(cell) for cell in row) for row in rows)
    return PlainTable(tuple(columns), tuple(texts), title)


def age(moment: datetime | None, now: datetime) -> str:
    """The time since a moment, or until it, in its largest unit: 21m; empty for None."""
    if moment is None:
        return ""
    seconds = abs((now - moment).total_seconds())
    if seconds < _MINUTE:
        return f"{seconds:.0f}s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f}m"
    return f"{seconds // _HOUR:.0f}h" if seconds < 2 * _DAY else f"{seconds // _DAY:.0f}d"


def time_of(moment: datetime | None) -> str:
    """A moment in UTC to the second; empty for None."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def clock(seconds: float) -> str:
    """A duration as minutes and seconds, or hours, minutes and seconds: 3:13."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


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
    return percent(estimate).replace(" [", "\n[")
