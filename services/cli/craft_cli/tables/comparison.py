"""A comparison of jobs in a terminal."""

from collections.abc import Iterator

from craft.contracts.public.comparison import ComparedSet, JobComparison
from craft_cli.tables.cells import METRIC_HEADINGS, METRICS, metric_cells, text_table, two_lines
from craft_cli.tables.plain import Fit, PlainTable

_DIFFERENCES = ("ths", "over_refusal", "pc", "pw", "pr")


def tables(comparison: JobComparison) -> Iterator[PlainTable]:
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


def _jobs(comparison: JobComparison, numbers: dict[str, str]) -> PlainTable:
    rows = (
        (numbers[job.id], job.name, job.status, "" if job.seconds is None else f"{job.seconds:.0f}", job.id)
        for job in comparison.jobs
    )
    return text_table(("#", "name", "status", "seconds", "job"), rows, title="Jobs")


def _parameters(comparison: JobComparison, numbers: dict[str, str]) -> PlainTable:
    rows = (
        (parameter.path, *("–" if value is None else value for value in parameter.values))
        for parameter in comparison.parameters
    )
    headings = ("parameter", *numbers.values())
    return text_table(headings, rows, title="Parameters that differ", fits=dict.fromkeys(headings, Fit.WRAPPED))


def _metrics(comparison: JobComparison, compared: ComparedSet, numbers: dict[str, str]) -> PlainTable:
    rows = (
        (numbers[job.id], strategy.strategy, *metric_cells(strategy.metrics[compared.name]))
        for job in comparison.jobs
        for strategy in job.strategies
        if compared.name in strategy.metrics
    )
    title = f"{compared.name}: percent [95 % interval]"
    return text_table(("#", "strategy", *METRIC_HEADINGS), rows, title=title, fits={"strategy": Fit.WRAPPED})


def _differences(compared: ComparedSet, numbers: dict[str, str]) -> PlainTable:
    rows = (
        (
            f"{numbers[pair.job]} {pair.strategy}",
            f"{numbers[pair.against_job]} {pair.against_strategy}",
            *(two_lines(getattr(pair.differences, name)) for name in _DIFFERENCES),
        )
        for pair in compared.differences
    )
    headings = (METRIC_HEADINGS[METRICS.index(name)] for name in _DIFFERENCES)
    title = f"{compared.name}: differences in points [95 % interval]"
    fits = {"model": Fit.WRAPPED, "against": Fit.WRAPPED}
    return text_table(("model", "against", *headings), rows, title=title, fits=fits)
