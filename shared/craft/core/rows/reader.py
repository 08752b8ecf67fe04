"""Reads a question from a row of a dataset."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from craft.core.findings import FindingCode
from craft.core.judging.text import normalise
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question, Task
from craft.core.rows import fields
from craft.core.rows.answers import RowNote, accepted_answers, written
from craft.core.rows.fields import RowInvalid
from craft.core.rows.options import NumberKey, options, right_option
from craft.core.rows.written import WrittenInvalid, read_written
from craft.errors import DatasetInvalid

_OPENINGS = '[{"'
"""A list or an object that is written as text begins so."""


class ReadRow(NamedTuple):
    """A row's question. `has_id` if the row names itself, `key` if a number says which option is right."""

    question: Question
    has_id: bool
    notes: tuple[RowNote, ...] = ()
    key: NumberKey | None = None


def task_of_row(row: Mapping[str, object], said: Task | None) -> Task:
    """The task that was said; open-ended where none was said and the row has no options.

    Raises DatasetInvalid if the row has: read as open-ended, it would teach a letter or an index.
    """
    if said is None and row.get("choices"):
        raise DatasetInvalid(
            "The rows have options (`choices`, or a column for each), but no `task` was said.",
            hint="Send task=multiple_choice, or task=open_ended to ignore the choices. Options in other columns are "
            'mapped with `columns`, such as {"choices": ["A", "B", "C", "D"]}.',
            param="task",
        )
    return said or Task.OPEN_ENDED


def question_from_row(row: Mapping[str, object], *, task: Task) -> Question:
    """Read one data row. The same as `read_row`, for rows of which only the question matters."""
    return read_row(row, task=task).question


def read_row(row: Mapping[str, object], *, task: Task, key_base: int = 0, has_bars: bool = False) -> ReadRow:
    """Read one data row.

    Open-ended: `question` and `answers` (a list or one text) or `answer`; where both are given `answer` comes first.
    Multiple choice: `question`, `choices` (texts, or `{"label", "text"}` objects as ARC has them, or an object of two
    lists `label` and `text`) and `answer`: a label, a letter, an index from `key_base` or the option's own text.
    Both: `id` (missing: the hash of the content, the same for the same content) and `category`. A list may be written
    as text (see `written`); in a row that `has_bars`, as CSV has them, `a|b` is a list too, except in `answer`.
    Raises RowInvalid, which names the field.
    """
    question = _question(row.get("question"))
    category = fields.optional_text("category", row.get("category"))
    given_id = fields.identifier("id", row.get("id"))
    notes = _scalar_notes(row)
    if task is Task.OPEN_ENDED:
        answers = _answers(row, notes, has_bars=has_bars)
        open_id = given_id or _content_id({"task": task.value, "question": question, "answers": answers})
        return ReadRow(OpenQuestion(open_id, question, answers, category), given_id is not None, tuple(notes))
    given = options(written("choices", row.get("choices"), notes, has_bars=has_bars))
    right = right_option(row.get("answer"), given, base=key_base)
    choice_id = given_id or _content_id({"task": task.value, "question": question, "choices": given.texts})
    found = ChoiceQuestion(choice_id, question, given.texts, right.position, category)
    return ReadRow(found, given_id is not None, tuple(notes), right.key)


def _question(value: object) -> str:
    """The question's text. Raises RowInvalid also for a list or an object that is written as text."""
    found = fields.text("question", value)
    if found[0] not in _OPENINGS:
        return found
    with suppress(WrittenInvalid):
        read = read_written(found)
        # A list of numbers may well be a question: "[1, 2, 4, 8]".
        if isinstance(read, Mapping) or (
            fields.is_list(read) and any(isinstance(item, (str, Mapping)) for item in read)
        ):
            reason = "is a list or an object as text; map the member that holds the question, such as prompt.0"
            raise RowInvalid.of("question", reason, value)
    return found


def _answers(row: Mapping[str, object], notes: list[RowNote], *, has_bars: bool) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    if not fields.is_missing(row.get("answer")):
        found = accepted_answers("answer", row["answer"], notes)
    if not fields.is_missing(row.get("answers")) or not found:
        found += accepted_answers("answers", row.get("answers"), notes, has_bars=has_bars)
    if not any(normalise(answer) for answer in found):
        # Such an answer matches no reply, so the question would count as wrong whatever a model says.
        raise RowInvalid.of("answers", "hold no letter or digit besides articles, so no reply could match", list(found))
    return tuple(dict.fromkeys(found))


def _scalar_notes(row: Mapping[str, object]) -> list[RowNote]:
    """The category and the id that are no text, as notes. An id may be a whole number: many are."""
    return [
        RowNote(FindingCode.VALUES_AS_TEXT, name, str(row[name]))
        for name in ("category", "id")
        if name in row
        and not isinstance(row[name], str)
        and not fields.is_missing(row[name])
        and (name == "category" or not isinstance(row[name], int) or isinstance(row[name], bool))
    ]


def _content_id(content: Mapping[str, Sequence[str] | str]) -> str:
    canonical = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return "q_" + hashlib.sha256(canonical.encode()).hexdigest()[:16]
