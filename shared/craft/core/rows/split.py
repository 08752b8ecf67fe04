"""The split into training and held-out questions: by the question that is asked, whatever ids the rows have."""

import hashlib
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic

from craft.core.judging.text import normalise
from craft.core.questions import AnyQuestion, ChoiceQuestion, Question
from craft.core.rows.question_hashes import question_hash
from craft.errors import RequestInvalid


@dataclass(frozen=True, slots=True)
class Split(Generic[AnyQuestion]):
    """Two parts of a dataset that share no question, each in the order of the file.

    `kept_together` and `left_out` are places in the file, from 1: rows whose question other rows ask too, all on one
    side, and rows in neither part because an evaluation set asks their question.
    """

    train: tuple[AnyQuestion, ...]
    held_out: tuple[AnyQuestion, ...]
    kept_together: tuple[int, ...] = ()
    left_out: tuple[int, ...] = ()


def question_identity(question: Question) -> int:
    """A 64-bit hash, the same for rows that ask the same, on every machine.

    Case, accents, articles, punctuation and spaces do not count, nor does the order of options. Other options make
    another question: "Which is true?" says little by itself.
    """
    if not isinstance(question, ChoiceQuestion):
        return question_hash(question.question)
    whole = "\0".join([_plain(question.question), *sorted(map(_plain, question.choices))])
    return int.from_bytes(hashlib.blake2b(whole.encode(), digest_size=8).digest(), "little")


def _plain(text: str) -> str:
    # Text without a letter or a digit ("???") is compared as it stands.
    return normalise(text) or text


def is_held_out(identity: int, *, held_out_fraction: float, seed: int) -> bool:
    """True if the questions with this identity are held out. Nothing else decides it.

    Raises RequestInvalid unless 0 ≤ fraction < 1.
    """
    if not 0 <= held_out_fraction < 1:
        raise RequestInvalid("held_out_fraction must be at least 0 and below 1", param="held_out_fraction")
    digest = hashlib.blake2b(f"split {seed}\0{identity:016x}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < int(held_out_fraction * 2**64)


def split(
    questions: Sequence[AnyQuestion], *, held_out_fraction: float, seed: int, evaluated: Container[int] = ()
) -> Split[AnyQuestion]:
    """Split the questions by a hash of what they ask; those of `evaluated` identities do not train.

    Rows that ask the same are on one side, and neither the order of the rows nor later rows move a question. The sizes
    are therefore only close to the fraction, and one part of a tiny dataset may be empty. Raises RequestInvalid unless
    0 ≤ fraction < 1.
    """
    identities = [question_identity(question) for question in questions]
    counts = Counter(identities)
    train, held_out, left_out = [], [], []
    for place, (question, identity) in enumerate(zip(questions, identities, strict=True), start=1):
        if is_held_out(identity, held_out_fraction=held_out_fraction, seed=seed):
            held_out.append(question)
        elif identity in evaluated:
            left_out.append(place)
        else:
            train.append(question)
    together = tuple(place for place, identity in enumerate(identities, start=1) if counts[identity] > 1)
    return Split(tuple(train), tuple(held_out), kept_together=together, left_out=tuple(left_out))


def first_examined_shot(shots: Iterable[Question], evaluated: Iterable[Question]) -> Question | None:
    """The first shot whose question is among the evaluated ones, or None. Options do not count.

    Such a shot would show the model an answer on which it is evaluated.
    """
    examined = {question_hash(question.question) for question in evaluated}
    return next((shot for shot in shots if question_hash(shot.question) in examined), None)
