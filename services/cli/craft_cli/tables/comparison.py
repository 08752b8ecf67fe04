"""A comparison of jobs in a terminal."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from craft.contracts.public.comparison import ComparedSet, JobComparison
from craft_cli.tables.cells import METRIC_HEADINGS, METRICS, metric_cells, two_lines

_DIFFERENCES = ("ths", "over_refusal", "pc", "pw", "pr")


def tables(comparison: JobComparison) -> Iterator[Table]:
    """The jobs, the differing parameters, the metrics and the paired differences.

    A job is shown by its place in the call.
    """
    numbers = {job.id: str(number) for number, job in enumerate(comparison.jobs, start=1)}
    yield _jobs(comparison, numbers)
    if comparison.parameters:
        yield _parameters(comparison, numbers)
    for compared in comparison.sets:
        yield _metrics(comparison, compared, numbers)
        if compared.differences:
            yield _differences(compared, numbers)


def reasons(comparison: JobComparison) -> Iterator[str]:
    """The reasons for missing metrics and intervals."""
    for compared in comparison.sets:
        if compared.reason is not None:
            yield f"{compared.name}: {compared.reason}"
    for job in comparison.jobs:
        for strategy in job.strategies:
            if strategy.reason is not None:
                yield f"{job.id} {strategy.strategy}: {strategy.reason}"


def _jobs(comparison: JobComparison, numbers: dict[str, str]) -> Table:
    table = _table("Jobs", "#", "job", "name", "status", "seconds")
    for job in comparison.jobs:
        seconds = "" if job.seconds is None else f"{job.seconds:.0f}"
        table.add_row(numbers[job.id], job.id, escape(job.name or ""), job.status, seconds)
    return table


def _parameters(comparison: JobComparison, numbers: dict[str, str]) -> Table:
    table = _table("Parameters that differ", "parameter", *numbers.values())
    for parameter in comparison.parameters:
        table.add_row(parameter.path, *(escape("–" if value is None else value) for value in parameter.values))
    return table


def _metrics(comparison: JobComparison, compared: ComparedSet, numbers: dict[str, str]) -> Table:
    table = _table(f"{compared.name}: percent [95 % interval]", "#", "strategy", *METRIC_HEADINGS)
    for job in comparison.jobs:
        for strategy in job.strategies:
            metrics = strategy.metrics.get(compared.name)
            if metrics is not None:
                table.add_row(numbers[job.id], strategy.strategy, *metric_cells(metrics))
    return table


def _differences(compared: ComparedSet, numbers: dict[str, str]) -> Table:
    headings = [METRIC_HEADINGS[METRICS.index(name)] for name in _DIFFERENCES]
    table = _table(f"{compared.name}: differences in points [95 % interval]", "model", "against", *headings)
    for pair in compared.differences:
        cells = [two_lines(getattr(pair.differences, name)) for name in _DIFFERENCES]
        model = f"{numbers[pair.job]} {pair.strategy}"
        table.add_row(model, f"{numbers[pair.against_job]} {pair.against_strategy}", *cells)
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=escape(title))
    for heading in headings:
        table.add_column(heading)
    return table
