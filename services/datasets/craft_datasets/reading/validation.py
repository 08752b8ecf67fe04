"""From raw rows to questions: every row is a question of the core or a row error, and the whole is counted."""

from collections.abc import Callable, Iterable, Mapping

from craft.contracts.services.datasets import DatasetStatistics, Reading
from craft.core.questions import Question, Task
from craft.core.rows.columns import ColumnMap
from craft.core.rows.errors import RowErrors
from craft.core.rows.fields import RowInvalid, excerpt
from craft.core.rows.question_hashes import FirstSeen, text_hash
from craft.core.rows.reader import question_from_row, task_of_row
from craft.errors import DatasetInvalid, ErrorDetail
from craft_datasets.reading.formats import RawRow
from craft_datasets.reading.statistics import Census

_MOST_COLUMNS = 200
_SHOWN_COLUMNS = 30
Sink = Callable[[Question, int], None]
"""Takes a question and its `question_mark`."""


def validate(raw_rows: Iterable[RawRow], *, reading: Reading, max_rows: int, sink: Sink) -> DatasetStatistics:
    """Hand every question to `sink` and describe the whole.

    Raises DatasetInvalid with up to 100 row errors and counts of all where any row is wrong, where there is none, where
    no row has a column that is mapped, where there are more than `max_rows`, and for `choices` without a task said.
    """
    census, rows = Census(), _Rows(reading.task, reading.column_map)
    for raw in raw_rows:
        if census.rows + rows.errors.total >= max_rows:
            raise DatasetInvalid(f"The dataset has more than {max_rows:,} rows.", hint="Split it, or sample from it.")
        question = rows.question(raw)
        if question is not None:
            sink(question, census.count(question))
    rows.raise_if_wrong(census.rows)
    return census.statistics()


class _Rows:
    """Turns raw rows into questions, and remembers what could not be turned."""

    def __init__(self, task: Task | None, columns: ColumnMap) -> None:
        self.errors = RowErrors()
        self._task = task
        self._columns = columns
        self._ids = FirstSeen()
        self._names: dict[str, None] = {}
        """The file's columns, in their order."""

    def question(self, raw: RawRow) -> Question | None:
        """The row's question; None where it has none, which is an error of the whole then."""
        if raw.row is None:
            self.errors.add(raw.problem or ErrorDetail(message="The row cannot be read.", line=raw.line))
            return None
        self._note(raw.row)
        try:
            row = self._columns.apply(raw.row)
            question = question_from_row(row, task=task_of_row(row, self._task))
        except RowInvalid as error:
            field = self._columns.own_name(error.field)
            self.errors.add(ErrorDetail(f"`{field}` {error.reason}.", field, raw.line, error.excerpt))
            return None
        first = self._ids.seen(text_hash(question.id), raw.line)
        if first is None:
            return question
        said = f"The id was used on line {first} already (rows without an id are named by their content)."
        self.errors.add(ErrorDetail(said, self._columns.own_name("id"), raw.line, question.id[:120]))
        return None

    def raise_if_wrong(self, good: int) -> None:
        """Raises DatasetInvalid, which says what to do about it."""
        absent = self._columns.absent(self._names)
        if absent and 0 < len(self._names) < _MOST_COLUMNS:
            raise DatasetInvalid(
                f"The file has no column `{excerpt(absent[0])}`.", hint=f"It has {self._shown()}.", param="columns"
            )
        if self.errors.total:
            raise DatasetInvalid(
                f"{self.errors.total:,} of {good + self.errors.total:,} rows cannot be used.",
                hint=self._hint(),
                details=self.errors.details,
                error_counts=self.errors.counts,
            )
        if not good:
            raise DatasetInvalid(
                "The dataset has no rows.",
                hint="Open-ended rows need `question` and `answers`; multiple choice `question`, `choices`, `answer`.",
            )

    def _note(self, row: Mapping[str, object]) -> None:
        for name in row:
            if len(self._names) >= _MOST_COLUMNS:
                break
            self._names[name] = None

    def _hint(self) -> str:
        if self._names and not self._columns.of and "question" not in self._names:
            chat = next((name for name in ("messages", "conversations") if name in self._names), None)
            such = f'{{"messages": "{chat}"}}' if chat else '{"question": "prompt", "answers": "completion"}'
            return f"The file has {self._shown()}: say with `columns` which is which, such as {such}."
        return "Mend or remove the rows listed in `errors` (the first 100) and send the dataset again."

    def _shown(self) -> str:
        names = [f"`{excerpt(name)}`" for name in self._names]
        more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
        return ", ".join(names[:_SHOWN_COLUMNS]) + more
