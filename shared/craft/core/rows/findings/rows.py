"""Collects what a dataset's rows show that could make a result wrong."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from craft.core.findings import FindingCode
from craft.core.questions import OpenQuestion, Question
from craft.core.rows.answers import RowNote
from craft.core.rows.findings.markup import control_tokens, damaged_characters, html_markup, stop_mark
from craft.core.rows.findings.refusals import RefusalFinder
from craft.core.rows.findings.tallies import Tallies, Tally
from craft.core.rows.findings.words import NUMBER_LISTS, NUMBER_LISTS_HINT, STOP_MARKS, STOP_MARKS_HINT, WORDS
from craft.core.rows.question_hashes import Repetition
from craft.errors import FindingDetail, Severity

_LABEL = re.compile(
    r"(?:(?:Answer|Option|Choice)[ :]+)?[(\[]?[A-J][)\].:]?|(?=..)A?B?C?D?E?F?G?|[①-⑩]|[0-5]", re.IGNORECASE
)
_NEARLY_ALL = 0.9
_MIN_LETTERS, _MIN_NUMBERS = 3, 10
"""From so many rows on, answers that are all labels, or nearly all letters, are no chance."""


_PLACEHOLDERS = frozenset(
    [
        "nan",
        "NaN",
        "NAN",
        "NaT",
        "null",
        "NULL",
        "None",
        "none",
        "N/A",
        "n/a",
        "N.A.",
        "<NA>",
        "#N/A",
        "undefined",
        "TBD",
        "TODO",
        "[deleted]",
        "[removed]",
    ]
)
_SEVERAL = re.compile(r"(?<![&#\w])\w+['\"]?\s*[;|]\s*[\w'\"]|\S[ \t]*[\r\n]+\s*\S")
_IN_FORMULAS = re.compile(r"[(\[{$`]")
_MANY = 4
"""Where one in so many answers looks like several, more than one text may be meant to be."""


class NoticedRows:
    """The findings of the rows so far, by our names of the fields."""

    def __init__(self) -> None:
        self._tallies = Tallies()
        self._stops = Tallies()
        self._several = Tally()
        self._labels = Tally()
        self._labels_of: Counter[bool] = Counter()
        """Labels by whether they are numbers."""
        self._refusals = RefusalFinder()
        self._rows = self._rows_of_one = 0

    def add_notes(self, notes: Sequence[RowNote], line: int) -> None:
        """Add what reading the row at `line` had to decide."""
        for note in notes:
            self._tallies.add(note.code, note.field, line, note.example)

    def add_repetition(self, question: Question, repetition: Repetition, line: int, *, is_kept: bool) -> None:
        """Add a row whose question came before."""
        same = FindingCode.REPEATED_QUESTIONS if is_kept else FindingCode.REPEATED_ROWS
        code = FindingCode.CONTRADICTING_ROWS if repetition.contradicts else same
        self._tallies.add(code, "question", line, f"line {repetition.first_line}: {question.question}")

    def add_question(self, question: Question, line: int) -> None:
        """Look at a question that is kept, and at its answers."""
        self._rows += 1
        self._look("question", question.question, line)
        if question.question in _PLACEHOLDERS:
            self._tallies.add(FindingCode.PLACEHOLDER_TEXTS, "question", line, question.question)
        if isinstance(question, OpenQuestion):
            self._look_at_answers(question.answers, line)
            return
        for text in question.choices:
            self._look("choices", text, line)
        if len(set(question.choices)) < len(question.choices):
            again = Counter(question.choices).most_common(1)[0][0]
            self._tallies.add(FindingCode.REPEATED_OPTIONS, "choices", line, again)

    def findings(self, own_name: Callable[[str], str]) -> list[FindingDetail]:
        """All findings; `own_name` gives the user's own name of a field."""
        found = [self._finding(code, field, tally) for code, field, tally in self._tallies.named(own_name)]
        for code, field, tally in self._stops.named(own_name):
            # One answer may well end so; the whole file does only where it was made for completions.
            if tally.count * 2 > self._rows and self._rows > 1:
                found.append(tally.detail(code, Severity.ERROR, STOP_MARKS, hint=STOP_MARKS_HINT, field=field))
        if self._several.count * _MANY > self._rows:
            found.append(self._finding(FindingCode.UNSPLIT_ANSWERS, own_name("answers"), self._several))
        letters, numbers = self._labels_of[False], self._labels_of[True]
        if (letters >= max(_MIN_LETTERS, self._rows * _NEARLY_ALL)) or (numbers == self._rows >= _MIN_NUMBERS):
            found.append(self._finding(FindingCode.LABEL_ANSWERS, own_name("answers"), self._labels))
        return found

    def _look_at_answers(self, answers: Sequence[str], line: int) -> None:
        for text in answers:
            self._look("answers", text, line)
            if self._refusals.is_refusal(text):
                self._tallies.add(FindingCode.ANSWERS_REFUSE, "answers", line, text)
            if text in _PLACEHOLDERS:
                self._tallies.add(FindingCode.PLACEHOLDER_TEXTS, "answers", line, text)
        if len(answers) == 1:
            self._rows_of_one += 1
            self._look_for_a_label(answers[0], line)
            if _SEVERAL.search(answers[0]) and not _IN_FORMULAS.search(answers[0]):
                self._several.add(line, answers[0])

    def _look(self, field: str, text: str, line: int) -> None:
        if control_tokens(text):
            self._tallies.add(FindingCode.CONTROL_TOKENS, field, line, text)
        elif stop_mark(text):
            self._stops.add(FindingCode.CONTROL_TOKENS, field, line, text[-60:])
        if damaged_characters(text):
            self._tallies.add(FindingCode.DAMAGED_CHARACTERS, field, line, text)
        if html_markup(text):
            self._tallies.add(FindingCode.HTML_MARKUP, field, line, text)

    def _look_for_a_label(self, answer: str, line: int) -> None:
        if _LABEL.fullmatch(answer):
            self._labels_of[answer.isascii() and answer.isdecimal()] += 1
            self._labels.add(line, answer)

    def _finding(self, code: FindingCode, field: str, tally: Tally) -> FindingDetail:
        if code is FindingCode.NUMBER_LISTS:
            # Among rows of one text each, a list of numbers is more likely an interval or a vector.
            is_odd = self._rows_of_one * 2 > self._rows - tally.count > 0
            severity = Severity.ERROR if is_odd else Severity.WARNING
            return tally.detail(code, severity, NUMBER_LISTS, hint=NUMBER_LISTS_HINT, field=field)
        words = WORDS[code]
        return tally.detail(code, words.severity, words.message, hint=words.hint, field=field)
