"""A comparison of jobs, and publications, for a terminal."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from craft.contracts.public.comparison import ComparedSet, JobComparison
from craft.contracts.public.publishing import MlflowTarget, PublicationView
from craft_cli.tables.listings import percent

_COLUMNS = ("pc", "pw", "pr", "ths", "over_refusal")
_HEADINGS = ("Pc", "Pw", "Pr", "THS", "over-refusal")
_DIFFERENCES = ("ths", "over_refusal", "pc", "pw", "pr")


def tables(found: JobComparison) -> Iterator[Table]:
    """The jobs, what differs, their metrics and the paired differences. A job is shown as its place in the call."""
    numbers = {job.id: str(number) for number, job in enumerate(found.jobs, start=1)}
    yield _jobs(found, numbers)
    if found.parameters:
        yield _parameters(found, numbers)
    for each in found.sets:
        yield _metrics(found, each, numbers)
        if each.differences:
            yield _differences(each, numbers)


def reasons(found: JobComparison) -> Iterator[str]:
    """Why there are no intervals where there are none."""
    for each in found.sets:
        if each.reason is not None:
            yield f"{each.name}: {each.reason}"
    for job in found.jobs:
        for strategy in job.strategies:
            if strategy.reason is not None:
                yield f"{job.id} {strategy.strategy}: {strategy.reason}"


def publication_line(view: PublicationView) -> str:
    """Where to, how it stands, and where it is or why it is not."""
    target = view.target
    name = target.model_name if isinstance(target, MlflowTarget) else target.repo
    told = f"{view.url} ({view.version})" if view.url else ""
    if view.error is not None:
        told = " ".join(filter(None, (f"{view.error.code}: {view.error.message}", view.error.hint)))
    return f"{view.id} {target.kind}:{name} {view.strategy} {view.status} {told}".rstrip()


def _jobs(found: JobComparison, numbers: dict[str, str]) -> Table:
    table = _table("Jobs", "#", "job", "name", "status", "seconds")
    for job in found.jobs:
        seconds = "" if job.seconds is None else f"{job.seconds:.0f}"
        table.add_row(numbers[job.id], job.id, escape(job.name or ""), job.status, seconds)
    return table


def _parameters(found: JobComparison, numbers: dict[str, str]) -> Table:
    table = _table("Parameters that differ", "parameter", *numbers.values())
    for each in found.parameters:
        table.add_row(each.path, *(escape("–" if value is None else value) for value in each.values))
    return table


def _metrics(found: JobComparison, of: ComparedSet, numbers: dict[str, str]) -> Table:
    table = _table(f"{of.name}: percent [95 % interval]", "#", "strategy", *_HEADINGS)
    for job in found.jobs:
        for strategy in job.strategies:
            metrics = strategy.metrics.get(of.name)
            if metrics is not None:
                cells = [_cell(percent(getattr(metrics, name))) for name in _COLUMNS]
                table.add_row(numbers[job.id], strategy.strategy, *cells)
    return table


def _differences(of: ComparedSet, numbers: dict[str, str]) -> Table:
    headings = [_HEADINGS[_COLUMNS.index(name)] for name in _DIFFERENCES]
    table = _table(f"{of.name}: differences in points [95 % interval]", "model", "against", *headings)
    for each in of.differences:
        cells = [_cell(percent(getattr(each.differences, name))) for name in _DIFFERENCES]
        model = f"{numbers[each.job]} {each.strategy}"
        table.add_row(model, f"{numbers[each.against_job]} {each.against_strategy}", *cells)
    return table


def _cell(text: str) -> str:
    # The interval on a line of its own, so that a terminal of 80 columns holds the table.
    return escape(text.replace(" [", "\n["))


def _table(title: str, *headings: str) -> Table:
    table = Table(title=escape(title))
    for heading in headings:
        table.add_column(heading)
    return table
