"""Reads a question from a row of a dataset."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from craft.core.judging.text import normalise
from craft.core.questions import MAX_CHOICES, MIN_CHOICES, ChoiceQuestion, OpenQuestion, Question, Task, letters
from craft.core.rows import fields
from craft.core.rows.fields import RowInvalid
from craft.errors import DatasetInvalid


def task_of_row(row: Mapping[str, object], said: Task | None) -> Task:
    """The task that was said; open-ended where none was said and the row has no `choices`.

    Raises DatasetInvalid if the row has: read as open-ended, it would teach a letter or an index.
    """
    if said is None and row.get("choices"):
        raise DatasetInvalid(
            "The rows have `choices`, but no `task` was said.",
            hint="Send task=multiple_choice, or task=open_ended to ignore the choices.",
            param="task",
        )
    return said or Task.OPEN_ENDED


def question_from_row(row: Mapping[str, object], *, task: Task) -> Question:
    """Read one data row.

    Open-ended: `question` and `answers` (a list or one text) or `answer`; where both are given `answer` comes first.
    Multiple choice: `question`, `choices` (texts, or `{"label", "text"}` objects as ARC has them, or an object of two
    lists `label` and `text`) and `answer`: a label, a letter, a 0-based index or the option's own text.
    Both: `id` (missing: the hash of the content, the same for the same content) and `category`.
    Raises RowInvalid, which names the field.
    """
    question = fields.text("question", row.get("question"))
    category = fields.optional_text("category", row.get("category"))
    given_id = fields.identifier("id", row.get("id"))
    if task is Task.OPEN_ENDED:
        answers = _answers(row)
        open_id = given_id or _content_id({"task": task.value, "question": question, "answers": answers})
        return OpenQuestion(open_id, question, answers, category)
    labels, choices = _choices(row.get("choices"))
    answer = _answer_index(row.get("answer"), labels, choices)
    choice_id = given_id or _content_id({"task": task.value, "question": question, "choices": choices})
    return ChoiceQuestion(choice_id, question, choices, answer, category)


def _answers(row: Mapping[str, object]) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    if row.get("answer") is not None:
        found = (fields.text("answer", row["answer"]),)
    if row.get("answers") is not None or not found:
        found += fields.texts("answers", row.get("answers"))
    if not any(normalise(answer) for answer in found):
        # Such an answer matches no reply, so the question would count as wrong whatever a model says.
        raise RowInvalid.of("answers", "hold no letter or digit besides articles, so no reply could match", list(found))
    return tuple(dict.fromkeys(found))


def _choices(value: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(labels, texts) of the options; labels are () where the row has none."""
    if isinstance(value, Mapping):
        labels, choices = (
            fields.texts("choices.label", value.get("label")),
            fields.texts("choices.text", value.get("text")),
        )
        if len(labels) != len(choices):
            raise RowInvalid.of("choices", f"has {len(labels)} labels for {len(choices)} texts", value)
    elif fields.is_list(value) and any(isinstance(item, Mapping) for item in value):
        options = [item if isinstance(item, Mapping) else {} for item in value]
        labels = tuple(fields.text(f"choices[{n}].label", option.get("label")) for n, option in enumerate(options))
        choices = tuple(fields.text(f"choices[{n}].text", option.get("text")) for n, option in enumerate(options))
    elif fields.is_list(value):
        labels, choices = (), tuple(fields.text(f"choices[{n}]", item) for n, item in enumerate(value))
    else:
        raise RowInvalid.of("choices", "must be a list of options", value)
    if not MIN_CHOICES <= len(choices) <= MAX_CHOICES:
        raise RowInvalid.of("choices", f"must be {MIN_CHOICES} to {MAX_CHOICES} options, not {len(choices)}", value)
    if len(set(labels)) != len(labels):
        raise RowInvalid.of("choices", "has one label twice", value)
    return labels, choices


def _answer_index(value: object, labels: Sequence[str], choices: Sequence[str]) -> int:
    """The index that `answer` means. Where two readings differ the row is refused: a wrong key is worse than no row."""
    if isinstance(value, int) and not isinstance(value, bool):
        if str(value) in labels:
            return labels.index(str(value))
        if not 0 <= value < len(choices):
            raise RowInvalid.of("answer", f"must be an index from 0 to {len(choices) - 1}", value)
        return value
    answer = fields.text("answer", value)
    if answer in labels:
        return labels.index(answer)
    readings = {position for position, choice in enumerate(choices) if choice == answer}
    if not labels:
        readings |= _positional_readings(answer, len(choices))
    if not readings:
        raise RowInvalid.of("answer", "is not among the choices", value)
    if len(readings) > 1:
        raise RowInvalid.of("answer", "can mean more than one option; give its index as a number", value)
    return readings.pop()


def _positional_readings(answer: str, count: int) -> set[int]:
    """The index that a letter or a text of digits (CSV has no numbers) means, if there is such an option."""
    offered = letters(count)
    if answer.upper() in offered:
        return {offered.index(answer.upper())}
    if answer in map(str, range(count)):
        return {int(answer)}
    return set()


def _content_id(content: Mapping[str, object]) -> str:
    canonical = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return "q_" + hashlib.sha256(canonical.encode()).hexdigest()[:16]
