"""From raw rows to questions: every row is a question of the core or a row error, and the whole is counted."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from craft.contracts.rest_datasets import DatasetStatistics
from craft.core.questions import OpenQuestion, Question, Task, question_from_row
from craft.core.rows import RowInvalid
from craft.errors import DatasetInvalid, ErrorDetail
from craft_datasets.formats import RawRow

_MOST_DETAILS = 100
_MOST_CATEGORIES = 100


@dataclass
class _Findings:
    rows: int = 0
    wrong_rows: int = 0
    details: list[ErrorDetail] = field(default_factory=list)
    lines_by_id: dict[str, int] = field(default_factory=dict)
    texts: set[int] = field(default_factory=set)
    categories: Counter[str] = field(default_factory=Counter)
    duplicate_questions: int = 0
    accepted: int = 0
    longest: int = 0

    def reject(self, detail: ErrorDetail) -> None:
        self.wrong_rows += 1
        if len(self.details) < _MOST_DETAILS:
            self.details.append(detail)

    def count(self, question: Question) -> None:
        self.rows += 1
        self.categories[question.category or ""] += 1
        # The hash instead of the text: a million questions in a bounded child.
        text = hash(question.question)
        self.duplicate_questions += text in self.texts
        self.texts.add(text)
        self.accepted += len(question.answers if isinstance(question, OpenQuestion) else question.choices)
        self.longest = max(self.longest, len(question.question))


def validate(
    raw_rows: Iterable[RawRow], *, task: Task, max_rows: int, sink: Callable[[Question], None]
) -> DatasetStatistics:
    """Hand every question to `sink` and describe the whole.

    Raises DatasetInvalid with up to 100 row errors and their full count where any row is wrong, where there is none,
    and where there are more than `max_rows`.
    """
    findings = _Findings()
    for raw in raw_rows:
        if findings.rows + findings.wrong_rows >= max_rows:
            raise DatasetInvalid(f"The dataset has more than {max_rows:,} rows.", hint="Split it, or sample from it.")
        question = _question(raw, task, findings)
        if question is not None:
            findings.count(question)
            sink(question)
    _raise_if_wrong(findings)
    return DatasetStatistics(
        rows=findings.rows,
        categories=dict(findings.categories.most_common(_MOST_CATEGORIES)),
        duplicate_questions=findings.duplicate_questions,
        answers_per_question=findings.accepted / findings.rows,
        longest_question_characters=findings.longest,
    )


def _question(raw: RawRow, task: Task, findings: _Findings) -> Question | None:
    if raw.row is None:
        findings.reject(raw.problem or ErrorDetail(message="The row cannot be read.", line=raw.line))
        return None
    try:
        question = question_from_row(raw.row, task=task)
    except RowInvalid as error:
        detail = ErrorDetail(
            message=f"`{error.field}` {error.reason}.", field=error.field, line=raw.line, excerpt=error.excerpt
        )
        findings.reject(detail)
        return None
    first = findings.lines_by_id.setdefault(question.id, raw.line)
    if first != raw.line:
        findings.reject(
            ErrorDetail(
                message=f"The id was used on line {first} already (rows without an id are named by their content).",
                field="id",
                line=raw.line,
                excerpt=question.id[:120],
            )
        )
        return None
    return question


def _raise_if_wrong(findings: _Findings) -> None:
    if findings.wrong_rows:
        raise DatasetInvalid(
            f"{findings.wrong_rows:,} of {findings.rows + findings.wrong_rows:,} rows cannot be used.",
            hint="Mend or remove the rows listed in `errors` (the first 100) and send the dataset again.",
            details=findings.details,
        )
    if not findings.rows:
        raise DatasetInvalid(
            "The dataset has no rows.",
            hint="Open-ended rows need `question` and `answers`; multiple choice `question`, `choices`, `answer`.",
        )
