"""Turns raw rows into questions, one by one, and collects the row errors and what else is noticed."""

from collections.abc import Iterator, Mapping, Sequence

from craft.contracts.services.datasets import Reading
from craft.core.findings import FindingCode
from craft.core.questions import Question, Task
from craft.core.rows.answers import RowNote
from craft.core.rows.chats import MESSAGES
from craft.core.rows.columns import column_of
from craft.core.rows.errors import RowErrors
from craft.core.rows.fields import RowInvalid, excerpt, is_missing
from craft.core.rows.findings.keys import KeyNumbers
from craft.core.rows.findings.rows import NoticedRows
from craft.core.rows.findings.unread import unread_findings
from craft.core.rows.options import KeyOutOfRange, OptionColumns, option_columns
from craft.core.rows.question_hashes import AskedBefore, FirstSeen, text_hash
from craft.core.rows.reader import ReadRow, read_row, task_of_row
from craft.errors import DatasetInvalid, ErrorDetail, FindingDetail, Severity
from craft_datasets.reading.json_lines import RawRow

_MAX_COLUMNS = 200
_SHOWN_COLUMNS = 30


class RowChecker:
    """The row errors and findings so far. It keeps a few hashes of each row."""

    def __init__(self, reading: Reading) -> None:
        self.errors = RowErrors()
        self._task = reading.task
        self._columns = reading.column_map
        self._answer_base = reading.answer_base
        self._ids, self._asked = FirstSeen(), AskedBefore()
        self._found = NoticedRows()
        self._rows = 0
        self._filled: dict[str, int] = {}
        """The dataset's columns, in order, with the rows in which each has content."""
        self._options: OptionColumns | None = None
        self._mapped_options = option_columns(tuple(self._columns.own_paths("choices")))
        self._keys: KeyNumbers | None = None
        self._trimmed: list[str] = []

    def question(self, raw: RawRow) -> Question | None:
        """The row's question; None, after a row error, where the row is wrong, and where it repeats another."""
        self._rows += 1
        self._trimmed += [note.example for note in raw.notes]
        if raw.row is None:
            self.errors.add(raw.problem or ErrorDetail(message="The row cannot be read.", line=raw.line))
            return None
        self._note_columns(raw.row, raw.columns)
        try:
            read = self._read(raw.row, raw)
        except RowInvalid as error:
            if isinstance(error, KeyOutOfRange):
                self._key_numbers().add(error.key, raw.line)
            self.errors.add(error.detail(raw.line, field=self._own_name(error.field)))
            return None
        if read.key is not None:
            self._key_numbers().add(read.key, raw.line)
        if not self._is_new(read, raw.line):
            return None
        self._found.add_notes(read.notes, raw.line)
        self._found.add_question(read.question, raw.line)
        return read.question

    def findings(self) -> list[FindingDetail]:
        """The findings of all rows."""
        key = self._keys.finding(self._own_name("answer")) if self._keys else None
        # `choices` may be there and empty, in some rows or in all.
        has_all = self._filled.get("choices", 0) >= self._rows
        reads_options = self._task is Task.MULTIPLE_CHOICE and not has_all
        read = self._columns.read(self._filled, reads_options=reads_options, options=self._options)
        return [
            *([key] if key else []),
            *self._found.findings(self._own_name),
            *unread_findings(self._filled, read, rows=self._rows),
            *_trimmed_headers(self._trimmed),
        ]

    def raise_if_wrong(self) -> None:
        """Raise DatasetInvalid, with what to do, if a mapped column is nowhere or a row is wrong."""
        absent = self._columns.absent(self._filled)
        if absent and 0 < len(self._filled) < _MAX_COLUMNS:
            raise DatasetInvalid(
                f"The dataset has no column `{excerpt(absent[0])}`.", hint=f"It has {self._shown()}.", param="columns"
            )
        if self.errors.total:
            findings = self.findings()
            raise DatasetInvalid(
                f"{self.errors.total:,} of {self._rows:,} rows cannot be used.",
                hint=self._hint(findings),
                details=self.errors.details,
                error_counts=self.errors.counts,
                findings=findings,
            )

    def _read(self, row: Mapping[str, object], raw: RawRow) -> ReadRow:
        mapped = self._columns.apply(row, options=self._options)
        task = task_of_row(mapped, self._task)
        read = read_row(mapped, task=task, key_base=self._key_base(), has_bars=raw.has_bars)
        turns = self._columns.earlier_turns(row)
        note = RowNote(FindingCode.EARLIER_TURNS, "messages", read.question.question)
        return read._replace(notes=(*read.notes, note)) if turns else read

    def _is_new(self, read: ReadRow, line: int) -> bool:
        """True if the row is to be kept: its id is new. Notes a question that came before."""
        again = self._asked.seen(read.question, line)
        first = self._ids.seen(text_hash(read.question.id), line)
        if first is not None and read.has_id:
            message = f"The id was used on line {first} already."
            self.errors.add(ErrorDetail(message, self._columns.own_name("id"), line, excerpt(read.question.id)))
        elif again is not None:
            self._found.add_repetition(read.question, again, line, is_kept=first is None)
        return first is None

    def _own_name(self, field: str) -> str:
        """The file's own name of a field. Where several columns could be meant, the one that is there."""
        found = self._columns.own_name(field)
        if found == "answers" and found not in self._filled and "answer" in self._filled:
            return "answer"
        is_elsewhere = found == "choices" and found not in self._filled
        if is_elsewhere and self._options is not None and "options" not in self._filled:
            return ",".join(filter(None, self._options.names))
        return "options" if is_elsewhere and "options" in self._filled else found

    def _key_base(self) -> int:
        """The number of the first option's key: as the request says, or as the options' columns are numbered."""
        if self._answer_base is not None:
            return self._answer_base
        options = self._mapped_options or (None if "choices" in self._columns.paths else self._options)
        return options.base if options else 0

    def _key_numbers(self) -> KeyNumbers:
        if self._keys is None:
            self._keys = KeyNumbers(self._key_base(), is_said=self._answer_base is not None)
        return self._keys

    def _note_columns(self, row: Mapping[str, object], columns: Sequence[str]) -> None:
        before = len(self._filled)
        for name in columns or row:
            if len(self._filled) >= _MAX_COLUMNS:
                break
            self._filled.setdefault(name, 0)
        for name, value in row.items():
            if name in self._filled and not _is_blank(value):
                self._filled[name] += 1
        if len(self._filled) > before:
            self._options = option_columns(tuple(self._filled))

    def _hint(self, findings: Sequence[FindingDetail]) -> str:
        """The advice about the wrong rows: about a fault of all of them, where there is one."""
        first = next((each for each in findings if each.code == FindingCode.ANSWER_BASE), None)
        if first is not None and first.severity is Severity.ERROR:
            return f"{first.message} {first.hint}"
        lacking = next(self._lacking(), None)
        if self._filled and lacking is not None:
            chat = next((name for name in ("messages", "conversations") if name in self._filled), None)
            example = f'{{"messages": "{chat}"}}' if chat else self._example()
            return (
                f"The dataset has {self._shown()}, and no `{lacking}`: say with `columns` which is which, such as "
                f"{example}."
            )
        return "Mend or remove the rows listed in `errors` (the first 100) and send the dataset again."

    def _example(self) -> str:
        if self._task is Task.MULTIPLE_CHOICE:
            return '{"question": "stem", "choices": ["A", "B", "C", "D"], "answer": "answerKey"}'
        return '{"question": "prompt", "answers": "completion"}'

    def _lacking(self) -> Iterator[str]:
        """The needed fields for which no row has a column."""
        if MESSAGES in self._columns.paths:
            return
        choices = self._task is Task.MULTIPLE_CHOICE
        needed = [("question",), ("choices",), ("answer",)] if choices else [("question",), ("answers", "answer")]
        for names in needed:
            paths = [path for name in names for path in self._columns.own_paths(name)]
            is_there = any(column_of(path, self._filled) in self._filled for path in paths)
            if not is_there and not (names == ("choices",) and ("options" in self._filled or self._options)):
                yield names[0]

    def _shown(self) -> str:
        names = [f"`{excerpt(name)}`" for name in self._filled]
        more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
        return ", ".join(names[:_SHOWN_COLUMNS]) + more


def _is_blank(value: object) -> bool:
    return is_missing(value) or value in ([], {}) or (isinstance(value, str) and not value.strip())


def _trimmed_headers(headers: Sequence[str]) -> list[FindingDetail]:
    if not headers:
        return []
    return [
        FindingDetail(
            FindingCode.TRIMMED_HEADERS,
            Severity.WARNING,
            f"Blanks around column names were left out: {', '.join(headers[:_SHOWN_COLUMNS])}.",
            hint="Nothing need be done.",
            count=len(headers),
        )
    ]
