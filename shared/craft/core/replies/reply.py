"""Replies of a model as a stage collects them, and excerpts of them for messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from craft.core.questions import ChoiceQuestion, Question

_QUESTION_LENGTH, _REPLY_LENGTH, _ANSWER_LENGTH = 38, 44, 16


class FinishReason(StrEnum):
    """The end of a reply. STOP: the model ended its turn. LENGTH: the limit of new tokens cut the reply."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question and a model's replies to it, each with its finish reason."""

    question: Question
    replies: tuple[str, ...]
    finishes: tuple[FinishReason, ...]


def shortened(text: str, longest: int) -> str:
    """`text` on one line of at most `longest` characters; characters without a glyph are shown as escapes."""
    shown = ""
    for character in text:
        shown += character if character.isprintable() else repr(character)[1:-1]
        if len(shown) > longest:
            return f"{shown[: longest - 1].rstrip()}…"
    return shown


def reply_excerpt(question: Question, reply: str, *, cut: bool = False) -> str:
    """One reply with its question and its right answer, in at most 120 characters."""
    right = shortened(right_answer(question), _ANSWER_LENGTH)
    mark = "cut; " if cut else ""
    asked = shortened(question.question, _QUESTION_LENGTH)
    return f"“{asked}” → “{shortened(reply, _REPLY_LENGTH)}” ({mark}right: {right})"


def right_answer(question: Question) -> str:
    """The right letter, or the first accepted answer."""
    return question.answer_letter if isinstance(question, ChoiceQuestion) else question.answers[0]


def finishes_or_stops(finishes: Sequence[FinishReason] | None, count: int) -> tuple[FinishReason, ...]:
    """The finish reasons of `count` replies; replies without a record count as ended by the model."""
    return tuple(finishes) if finishes is not None else (FinishReason.STOP,) * count
