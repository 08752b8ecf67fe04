"""Questions of both tasks."""

import hashlib
import string
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, TypeVar

from craft.errors import DatasetInvalid

MIN_CHOICES = 2
MAX_CHOICES = 26


class Task(StrEnum):
    """The two kinds of question."""

    OPEN_ENDED = "open_ended"
    MULTIPLE_CHOICE = "multiple_choice"


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question with one or more accepted answers; the first one is taught."""

    id: str
    question: str
    answers: tuple[str, ...]
    category: str | None = None


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """A question with 2 to 26 options; `answer` is the index of the right option."""

    id: str
    question: str
    choices: tuple[str, ...]
    answer: int
    category: str | None = None

    @property
    def letters(self) -> tuple[str, ...]:
        """The letters of the options."""
        return letters(len(self.choices))

    @property
    def answer_letter(self) -> str:
        """The letter of the right option."""
        return self.letters[self.answer]


Question: TypeAlias = OpenQuestion | ChoiceQuestion
AnyQuestion = TypeVar("AnyQuestion", OpenQuestion, ChoiceQuestion, Question)


def letters(count: int) -> tuple[str, ...]:
    """`count` letters from A. Raises DatasetInvalid unless 2 ≤ count ≤ 26."""
    if not MIN_CHOICES <= count <= MAX_CHOICES:
        raise DatasetInvalid(
            f"a multiple-choice question has {MIN_CHOICES} to {MAX_CHOICES} options, not {count}", param="choices"
        )
    return tuple(string.ascii_uppercase[:count])


def id_hash(question_id: str, *, salt: str = "") -> int:
    """A 64-bit hash of an id, the same on every machine: for ties, splits and shuffles that ignore the rows' order."""
    return int.from_bytes(hashlib.blake2b(f"{salt}\0{question_id}".encode(), digest_size=8).digest())
