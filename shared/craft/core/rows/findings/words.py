"""The words of each kind of finding about rows."""

from collections.abc import Mapping
from typing import NamedTuple

from craft.core.findings import FindingCode
from craft.errors import Severity


class Words(NamedTuple):
    """A kind's severity, message and hint. `{rows}` are the rows that have it, `{field}` is the user's own column."""

    severity: Severity
    message: str
    hint: str


_ERROR, _WARNING = Severity.ERROR, Severity.WARNING
WORDS: Mapping[FindingCode, Words] = {
    FindingCode.CONTROL_TOKENS: Words(
        _ERROR,
        "{rows} control tokens or chat markup in `{field}`. An answer with one matches no reply; in a question the "
        "model takes it for the end of a turn or of the prompt.",
        "Remove them: the model's own template adds what it needs.",
    ),
    FindingCode.CONTRADICTING_ROWS: Words(
        _ERROR,
        "{rows} the question of an earlier row and another answer.",
        "Correct the wrong one, or list all right answers in one row's `answers`. If it is accepted, all open-ended "
        "rows are kept; of multiple-choice rows without ids the first one is.",
    ),
    FindingCode.REPEATED_QUESTIONS: Words(
        _WARNING,
        "{rows} the question and the answer of an earlier row under another id.",
        "Keep one row of each question: repeated ones count more often in every figure.",
    ),
    FindingCode.REPEATED_ROWS: Words(
        _WARNING,
        "{rows} the question and the answers of an earlier row, which alone was taken.",
        "Nothing need be done. Rows that are all to be kept need ids.",
    ),
    FindingCode.ANSWERS_REFUSE: Words(
        _WARNING,
        "{rows} an answer in `{field}` that is a refusal, as the one that is taught is. No reply to them can be right, "
        "and they count as unknown.",
        "Leave these rows out, or give the true answers.",
    ),
    FindingCode.VALUES_AS_TEXT: Words(
        _WARNING,
        "{rows} a number, a truth value or a date in `{field}`; it was taken as text.",
        "If it must look otherwise (007, 1.50), send it as text.",
    ),
    FindingCode.BARS_SPLIT: Words(
        _WARNING,
        "{rows} bars in `{field}`, at which they were split into several texts.",
        'If a bar belongs to the text, write the cell as a JSON list, ["a|b"], or map the column as `answer`, which is '
        "never split.",
    ),
    FindingCode.INVISIBLE_CHARACTERS: Words(
        _WARNING,
        "{rows} invisible characters in `{field}` that would keep replies from matching; they were left out.",
        "Nothing need be done. Better remove them at the source.",
    ),
    FindingCode.HTML_MARKUP: Words(
        _WARNING,
        "{rows} HTML entities or tags in `{field}`; they are kept as they are.",
        "Unescape the texts (&amp; is &) and remove the tags, unless the questions are about HTML.",
    ),
    FindingCode.DAMAGED_CHARACTERS: Words(
        _WARNING,
        "{rows} characters in `{field}` that a wrong encoding left, such as Ã© for é. Hardly any reply matches them.",
        "Read the source in its true encoding, and write it as UTF-8 once.",
    ),
    FindingCode.PLACEHOLDER_TEXTS: Words(
        _WARNING,
        "{rows} a text in `{field}` that programs write where there is none (nan, null, None, N/A). It is read as it "
        "stands.",
        "Leave these rows out, unless the word is meant.",
    ),
    FindingCode.UNSPLIT_ANSWERS: Words(
        _WARNING,
        "{rows} a semicolon, a bar or a line break between texts in `{field}`; each was read as one answer, and a "
        "reply with a part of it is wrong.",
        'If they are several answers, write them as a list: ["a", "b"].',
    ),
    FindingCode.REPEATED_OPTIONS: Words(
        _WARNING,
        "{rows} the same text twice among the options in `{field}`. A model that picks the other one is counted wrong.",
        "Remove or correct one of them.",
    ),
    FindingCode.EARLIER_TURNS: Words(
        _WARNING,
        "{rows} turns in `{field}` before the last question, and they are not read: the model is asked that question "
        "alone.",
        "Leave out the chats whose last question needs what was said before, or make it stand alone.",
    ),
    FindingCode.LABEL_ANSWERS: Words(
        _ERROR,
        "{rows} a key such as A, BD or 2 as the only answer, as multiple choice has them; read as open-ended, they "
        "would teach the label.",
        'Send "task": "multiple_choice" with the options (`choices`, or "columns": {{"choices": ["A", "B", "C"]}}), or '
        "map the answer to the column with its text.",
    ),
}
STOP_MARKS = (
    "{rows} the mark in `{field}` that ended prompts or completions in older formats (`###`, ` END`, ` ->`). Answers "
    "with it match no reply."
)
STOP_MARKS_HINT = "Cut the mark off: the model's own template says where a turn ends."
NUMBER_LISTS = "{rows} a list of numbers as text in `{field}`; each number was read as an answer of its own."
NUMBER_LISTS_HINT = 'If it is one answer (an interval, a vector), write it as a list of one text: ["[0, 1]"].'
