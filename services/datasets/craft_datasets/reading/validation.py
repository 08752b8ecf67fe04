"""Checks a dataset's rows: each is a question of the core or a row error. Nothing else in the system checks them."""

from collections.abc import Callable, Iterable, Mapping

from craft.contracts.services.datasets import DatasetStatistics, Reading
from craft.core.questions import Question, Task
from craft.core.rows.columns import ColumnMap
from craft.core.rows.errors import RowErrors
from craft.core.rows.fields import RowInvalid, excerpt
from craft.core.rows.question_hashes import FirstSeen, text_hash
from craft.core.rows.reader import question_from_row, task_of_row
from craft.errors import DatasetInvalid, ErrorDetail
from craft_datasets.reading.foreign_formats import no_rows
from craft_datasets.reading.json_lines import RawRow
from craft_datasets.reading.statistics import QuestionCounts

_MAX_COLUMNS = 200
_SHOWN_COLUMNS = 30
Sink = Callable[[Question, int], None]
"""Takes a question and its `question_hash`."""


def validate(raw_rows: Iterable[RawRow], *, reading: Reading, max_rows: int, sink: Sink) -> DatasetStatistics:
    """Hand each question to `sink`, and return the statistics of all.

    Raises DatasetInvalid with up to 100 row errors and the counts of all if a row is wrong; if there is no row,
    or more than `max_rows`; if no row has a mapped column; and if rows have `choices` and no task was said.
    """
    counts, rows = QuestionCounts(), _RowChecker(reading.task, reading.column_map)
    for raw in raw_rows:
        if counts.rows + rows.errors.total >= max_rows:
            raise DatasetInvalid(f"The dataset has more than {max_rows:,} rows.", hint="Split it, or sample from it.")
        question = rows.question(raw)
        if question is not None:
            sink(question, counts.add(question))
    rows.raise_if_wrong(counts.rows)
    return counts.statistics()


class _RowChecker:
    """Turns raw rows into questions, and collects the row errors."""

    def __init__(self, task: Task | None, columns: ColumnMap) -> None:
        self.errors = RowErrors()
        self._task = task
        self._columns = columns
        self._ids = FirstSeen()
        self._names: dict[str, None] = {}
        """The dataset's columns, in order."""

    def question(self, raw: RawRow) -> Question | None:
        """The row's question; None, after a row error, where the row is wrong."""
        if raw.row is None:
            self.errors.add(raw.problem or ErrorDetail(message="The row cannot be read.", line=raw.line))
            return None
        self._note_columns(raw.row)
        try:
            row = self._columns.apply(raw.row)
            question = question_from_row(row, task=task_of_row(row, self._task))
        except RowInvalid as error:
            self.errors.add(error.detail(raw.line, field=self._columns.own_name(error.field)))
            return None
        first = self._ids.seen(text_hash(question.id), raw.line)
        if first is None:
            return question
        message = f"The id was used on line {first} already (rows without an id are named by their content)."
        self.errors.add(ErrorDetail(message, self._columns.own_name("id"), raw.line, question.id[:120]))
        return None

    def raise_if_wrong(self, good: int) -> None:
        """Raise DatasetInvalid, with what to do, unless all of the `good` rows are a dataset."""
        absent = self._columns.absent(self._names)
        if absent and 0 < len(self._names) < _MAX_COLUMNS:
            raise DatasetInvalid(
                f"The dataset has no column `{excerpt(absent[0])}`.", hint=f"It has {self._shown()}.", param="columns"
            )
        if self.errors.total:
            raise DatasetInvalid(
                f"{self.errors.total:,} of {good + self.errors.total:,} rows cannot be used.",
                hint=self._hint(),
                details=self.errors.details,
                error_counts=self.errors.counts,
            )
        if not good:
            raise no_rows()

    def _note_columns(self, row: Mapping[str, object]) -> None:
        for name in row:
            if len(self._names) >= _MAX_COLUMNS:
                break
            self._names[name] = None

    def _hint(self) -> str:
        if self._names and not self._columns.paths and "question" not in self._names:
            chat = next((name for name in ("messages", "conversations") if name in self._names), None)
            example = f'{{"messages": "{chat}"}}' if chat else '{"question": "prompt", "answers": "completion"}'
            return f"The dataset has {self._shown()}: say with `columns` which is which, such as {example}."
        return "Mend or remove the rows listed in `errors` (the first 100) and send the dataset again."

    def _shown(self) -> str:
        names = [f"`{excerpt(name)}`" for name in self._names]
        more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
        return ", ".join(names[:_SHOWN_COLUMNS]) + more
