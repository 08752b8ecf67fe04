"""A job's report in a terminal: its main tables and the verdicts."""

from collections.abc import Iterator

from craft.contracts.documents.report import ReportDocument, ReportSet
from craft.contracts.public.jobs import JobView
from craft_cli.tables.cells import METRIC_HEADINGS, clock, finding_lines, metric_cells, percent, text_table
from craft_cli.tables.plain import Fit, PlainTable

THS_WORDS = (
    "THS rewards right answers and charges wrong ones at the rate of M0 BASIC, the untuned model asked plainly: "
    "answering like it scores 0, and so does refusing everything."
)
_NAMES = {"initial_basic": "M0 BASIC", "initial_refuse": "M0 REFUSE"}


def report(document: ReportDocument) -> Iterator[PlainTable | str]:
    """The findings, the table of each evaluation set, a line for each comparison on the first, and words for THS."""
    if document.findings:
        yield "What to know before you trust this:"
        yield from finding_lines(document.findings)
    for report_set in document.sets:
        yield _results(report_set)
    for comparison in document.sets[0].comparisons:
        against = _NAMES.get(comparison.against, comparison.against)
        yield f"• {comparison.model} against {against}: {comparison.verdict}"
    yield THS_WORDS


def conclusion(view: JobView, document: ReportDocument | None) -> Iterator[str]:
    """The cost and the gain of a job that succeeded, and the commands that come next."""
    took = ((view.finished_at or view.created_at) - view.created_at).total_seconds()
    waited = f", {clock(view.queue.waited_seconds)} of them in the queue" if view.queue.waited_seconds >= 1 else ""
    yield f"{view.name or view.id} succeeded after {clock(took)}{waited}."
    if document is not None:
        first = document.sets[0]
        shown = (f"{_NAMES.get(name, name)} {percent(metrics.micro.ths)}" for name, metrics in first.models.items())
        yield f"THS on {first.name}: {', '.join(shown)}"
        yield THS_WORDS
    yield "Next:"
    yield f"  craft jobs report {view.id}"
    yield f"  craft jobs report {view.id} -o report.html"
    for adapter in view.adapters:
        which = f" --strategy {adapter.strategy.value}" if len(view.adapters) > 1 else ""
        yield f"  craft jobs download {view.id}{which}"


def _results(report_set: ReportSet) -> PlainTable:
    """The headline metrics of one evaluation set, in percent with 95 % intervals."""
    rows = ((_NAMES.get(name, name), *metric_cells(metrics.micro)) for name, metrics in report_set.models.items())
    title = f"{report_set.name}: {report_set.questions} questions, percent [95 % interval]"
    return text_table(("model", *METRIC_HEADINGS), rows, title=title, fits={"model": Fit.WRAPPED})
