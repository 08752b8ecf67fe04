"""A job's report in a terminal: its main tables and the verdicts."""

from collections.abc import Iterator

from rich.table import Table

from craft.contracts.documents.report import ReportDocument, ReportSet
from craft_cli.tables.cells import METRIC_HEADINGS, finding_lines, metric_cells

_NAMES = {"initial_basic": "M0 BASIC", "initial_refuse": "M0 REFUSE"}


def report(document: ReportDocument) -> Iterator[Table | str]:
    """The findings, the table of each evaluation set, and then a line for each comparison on the first set."""
    if document.findings:
        yield "What to know before you trust this:"
        yield from finding_lines(document.findings)
    for report_set in document.sets:
        yield _results(report_set)
    for comparison in document.sets[0].comparisons:
        against = _NAMES.get(comparison.against, comparison.against)
        yield f"• {comparison.model} against {against}: {comparison.verdict}"


def _results(report_set: ReportSet) -> Table:
    """The headline metrics of one evaluation set, in percent with 95 % intervals."""
    table = Table(title=f"{report_set.name}: {report_set.questions} questions, percent [95 % interval]")
    table.add_column("model")
    for heading in METRIC_HEADINGS:
        table.add_column(heading, justify="right")
    for name, metrics in report_set.models.items():
        table.add_row(_NAMES.get(name, name), *metric_cells(metrics.micro))
    return table
