"""Checks a dataset's rows: each is a question of the core or a row error. Nothing else in the system checks them."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from craft.contracts.services.datasets import DatasetStatistics, Reading
from craft.core.findings import Acceptance
from craft.core.questions import Question
from craft.errors import DatasetInvalid, FindingDetail
from craft_datasets.reading.foreign_formats import no_rows
from craft_datasets.reading.json_lines import RawRow
from craft_datasets.reading.row_checker import RowChecker
from craft_datasets.reading.statistics import QuestionCounts

Sink = Callable[[Question, int], None]
"""Takes a question and its `question_hash`."""


class CheckedRows(NamedTuple):
    """The statistics of a dataset, and what was noticed: warnings, and errors that the request accepts."""

    statistics: DatasetStatistics
    findings: list[FindingDetail]


def validate(raw_rows: Iterable[RawRow], *, reading: Reading, max_rows: int, sink: Sink) -> CheckedRows:
    """Hand each question to `sink`, and return the statistics of all, with what was noticed.

    Raises DatasetInvalid with up to 100 row errors and the counts of all if a row is wrong; if there is no row,
    or more than `max_rows`; if no row has a mapped column; if rows have options and no task was said; and, with all
    findings, if one of them is an error that the request does not accept.
    """
    counts, rows = QuestionCounts(), RowChecker(reading)
    for total, raw in enumerate(raw_rows, start=1):
        if total > max_rows:
            raise DatasetInvalid(f"The dataset has more than {max_rows:,} rows.", hint="Split it, or sample from it.")
        question = rows.question(raw)
        if question is not None:
            sink(question, counts.add(question))
    rows.raise_if_wrong()
    if not counts.rows:
        raise no_rows()
    return CheckedRows(counts.statistics(), Acceptance.of(reading.accept).apply(rows.findings()))
