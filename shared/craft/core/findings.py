"""Findings: what was noticed in data, a model or a stage's results that could make a number wrong.

An error finding stops the work, because going on would give a wrong result without a word. The caller may accept it by
its code; then it is a warning, and stays on record. Warnings never stop anything: they reach the report and the card.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from craft.core.rows.fields import excerpt
from craft.errors import DatasetInvalid, FindingDetail, Severity

MAX_LINES = 10
MAX_EXAMPLES = 3


class FindingCode(StrEnum):
    """The kind of a finding, as it is named in `accept`."""

    REPEATED_QUESTIONS = "repeated_questions"
    """The same question comes in several rows."""
    KEPT_TOGETHER = "kept_together"
    """Rows that ask the same are on one side of the split."""
    EVALUATED_ELSEWHERE = "evaluated_elsewhere"
    """Rows do not train, because an evaluation set asks their question."""
    ROWS_TOO_LONG = "rows_too_long"
    """Rows have more tokens than the model, or the training, takes. Accepted, they are left out."""
    MODEL_TOKENS = "model_tokens"
    """Rows hold special tokens of the model as text."""
    ANSWERS_REFUSE = "answers_refuse"
    """The answers of rows are refusals, or the one that the job teaches, so that no reply to them is right."""
    NO_REPLY_HEADER = "no_reply_header"
    """The chat template does not begin the assistant's reply, although it writes a header before one."""
    CHAT_ARGUMENTS_UNREAD = "chat_arguments_unread"
    """Arguments for the chat template that it does not read."""
    EXPERIMENTAL_MODEL = "experimental_model"
    """The model's architecture is not among the tested ones."""
    EXPERTS_NOT_ADAPTED = "experts_not_adapted"
    """The model is a mixture of experts, of which an adapter changes the attention alone."""
    CHATS_NEED_TRUST = "chats_need_trust"
    """A vLLM of the team's own must take the chat templates that come with requests."""
    UNTRAINED_END = "untrained_end"
    """The token that ends a reply was never trained, or is not in the vocabulary."""
    SHOTS_IN_TRAINING = "shots_in_training"
    """Few-shot examples are also questions of the training split."""
    REPLIES_CUT = "replies_cut"
    """The limit of new tokens cut many replies."""
    REPLIES_WITH_THOUGHTS = "replies_with_thoughts"
    """Many replies hold a thought, which is judged with the answer or instead of it."""
    REPLIES_EMPTY = "replies_empty"
    """Many replies have no text."""
    REPLIES_UNPARSED = "replies_unparsed"
    """No answer can be read in many replies."""
    REPLIES_ALIKE = "replies_alike"
    """Nearly all questions get the same reply."""
    LETTERS_IMPROBABLE = "letters_improbable"
    """The next token is hardly ever one of the offered letters."""
    NO_REPLY_RIGHT = "no_reply_right"
    """The model answers no question right."""
    EVERY_REPLY_RIGHT = "every_reply_right"
    """The model answers every question right."""
    GAIN_FROM_BASE_REPLIES = "gain_from_base_replies"
    """A strategy's gain comes from questions whose BASIC reply was cut or could not be read."""
    TRAINED_ON_OTHER_WEIGHTS = "trained_on_other_weights"
    """The adapter was trained on a quantized base model and is served on a whole one."""
    REPEATED_ROWS = "repeated_rows"
    """The same row without an id comes again, and is taken once."""
    CONTRADICTING_ROWS = "contradicting_rows"
    """The same question comes with different answers."""
    ANSWER_BASE = "answer_base"
    """The keys of multiple choice seem to count from another number than they are read from."""
    LABEL_ANSWERS = "label_answers"
    """All answers of an open-ended dataset are letters or small numbers, as keys of options are."""
    CONTROL_TOKENS = "control_tokens"
    """Control tokens or chat markup stand in questions or answers."""
    UNREAD_COLUMNS = "unread_columns"
    """Columns have content that is not read."""
    UNREAD_CONTEXT = "unread_context"
    """A column that a question may need is not read."""
    VALUES_AS_TEXT = "values_as_text"
    """Numbers, truth values or dates were taken as text."""
    NUMBER_LISTS = "number_lists"
    """A text such as [0, 1] was read as a list of answers."""
    BARS_SPLIT = "bars_split"
    """A cell of CSV was split at its bars."""
    INVISIBLE_CHARACTERS = "invisible_characters"
    """Invisible characters were left out of answers."""
    HTML_MARKUP = "html_markup"
    """HTML entities or tags stand in questions or answers."""
    DAMAGED_CHARACTERS = "damaged_characters"
    """Characters that a wrong encoding left stand in questions or answers."""
    PLACEHOLDER_TEXTS = "placeholder_texts"
    """A question or an answer is what programs write where there is none: nan, null, None."""
    UNSPLIT_ANSWERS = "unsplit_answers"
    """Many answers look like several in one text, and are read as one."""
    REPEATED_OPTIONS = "repeated_options"
    """Two options of a row have the same text."""
    EARLIER_TURNS = "earlier_turns"
    """The turns of chats before the last question are not read."""
    TRIMMED_HEADERS = "trimmed_headers"
    """Blanks around column names were left out."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The error findings that the caller accepts, by code."""

    codes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, codes: Collection[str]) -> "Acceptance":
        """The acceptance of these codes."""
        return cls(frozenset(codes))

    def marked(self, findings: Sequence[FindingDetail]) -> list[FindingDetail]:
        """The findings, with each accepted error as a warning."""
        return [
            replace(each, severity=Severity.WARNING, accepted=True)
            if each.severity is Severity.ERROR and each.code in self.codes
            else each
            for each in findings
        ]

    def apply(self, findings: Sequence[FindingDetail], *, param: str | None = None) -> list[FindingDetail]:
        """The findings, with each accepted error as a warning.

        Raises DatasetInvalid, with all findings, if an error is not accepted.
        """
        marked = self.marked(findings)
        open_errors = [each for each in marked if each.severity is Severity.ERROR]
        if open_errors:
            first = open_errors[0]
            raise DatasetInvalid(
                first.message,
                hint=hint_to_accept(open_errors, otherwise="Change the data."),
                param=param or first.field,
                findings=marked,
            )
        return marked


def lines_finding(
    code: FindingCode,
    severity: Severity,
    message: str,
    rows: Sequence[tuple[int, str]],
    *,
    hint: str | None = None,
    field: str | None = None,
) -> FindingDetail:
    """The finding for rows, each with its line (from 1) and its text. The first lines and excerpts are shown."""
    return FindingDetail(
        code=code,
        severity=severity,
        message=message,
        hint=hint,
        field=field,
        count=len(rows),
        lines=tuple(line for line, _ in rows[:MAX_LINES]),
        examples=tuple(excerpt(text) for _, text in rows[:MAX_EXAMPLES]),
    )


def hint_to_accept(errors: Sequence[FindingDetail], *, otherwise: str) -> str:
    """The first error's hint, or `otherwise`, and the `accept` with which the work goes on."""
    codes = ", ".join(f'"{code}"' for code in dict.fromkeys(each.code for each in errors))
    return f'{errors[0].hint or otherwise} Or, if it is meant so, send "accept": [{codes}].'
