"""Judging a reply: right, wrong, refused or unparsed."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from craft.core.judging.letters import parse_letter
from craft.core.judging.refusals import RefusalKind, refusal_kind
from craft.core.judging.text import APOSTROPHES, contains, normalise, tokens, without_articles
from craft.core.judging.wordings.base import RefusalWording
from craft.core.judging.wordings.english import ENGLISH
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question


class Outcome(StrEnum):
    """What became of one reply. Every evaluated question has exactly one; none leaves the denominator."""

    RIGHT = "right"
    WRONG = "wrong"
    REFUSED = "refused"
    UNPARSED = "unparsed"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome, and what was understood: the accepted answer that matched, or the letter, or None."""

    outcome: Outcome
    parsed: str | None = None


# "A is" and "I stands for" name the letter; before any other word they are the article and the pronoun.
_LETTER_NAMES = {
    letter: re.compile(
        rf"(?<![^\W_])(?<![^\W_]\.)[{letter.upper()}{letter}](?![{APOSTROPHES}.]?[^\W_])"
        r"(?!\s+(?!(?:is|stands|and|or|for|represents|means)\b)[^\W_])"
    )
    for letter in ("a", "i")
}


def matches(reply: str, answers: Iterable[str]) -> str | None:
    """The first accepted answer that appears in `reply` as whole tokens, as it is written in `answers`.

    Both are folded, lower-cased and stripped of articles and punctuation. An answer that has nothing left never
    matches. In an answer that ends in the word "a" ("vitamin A") that word counts. A one-letter answer that is also an
    English word must be meant as the letter: A not as the article, I not as the pronoun.
    """
    words = tokens(reply)
    bare = " ".join(without_articles(words))
    for answer in answers:
        form = normalise(answer)
        if form in _LETTER_NAMES:
            found = bool(_LETTER_NAMES[form].search(reply))
        elif form.endswith(" a"):
            found = contains(_keeping_a(words), form)
        else:
            found = contains(bare, form)
        if found:
            return answer
    return None


def _keeping_a(words: Sequence[str]) -> str:
    return " ".join(word for word in words if word not in {"an", "the"})


def judge(reply: str, question: Question, *, wording: RefusalWording) -> Judgement:
    """Judge one reply.

    Refusals come first: "I don't know" is one even where those words are an accepted answer or an option, because that
    is the text the model is taught to refuse with. A refusal that is only stated ("Unknown") is that answer, or
    that option, where it is exactly one.
    Open-ended: right where an accepted answer matches, wrong otherwise; a reply without a letter or digit is unparsed,
    since nothing was said that could be wrong. Multiple choice: the letter as in `parse_letter`; unparsed without one.
    """
    kind = refusal_kind(reply, wording)
    if kind is RefusalKind.SPOKEN:
        return Judgement(Outcome.REFUSED)
    stated = kind is RefusalKind.STATED
    if isinstance(question, ChoiceQuestion):
        return _judge_choice(reply, question, stated=stated)
    return _judge_open(reply, question, stated=stated)


def _judge_open(reply: str, question: OpenQuestion, *, stated: bool) -> Judgement:
    words = normalise(reply)
    if stated:
        same = [answer for answer in question.answers if normalise(answer) == words]
        return Judgement(Outcome.RIGHT, same[0]) if same else Judgement(Outcome.REFUSED)
    if matched := matches(reply, question.answers):
        return Judgement(Outcome.RIGHT, matched)
    return Judgement(Outcome.WRONG if tokens(reply) else Outcome.UNPARSED)


def _judge_choice(reply: str, question: ChoiceQuestion, *, stated: bool) -> Judgement:
    letter = parse_letter(reply, question, inside=not stated)
    if letter is None:
        return Judgement(Outcome.REFUSED if stated else Outcome.UNPARSED)
    return Judgement(Outcome.RIGHT if letter == question.answer_letter else Outcome.WRONG, letter)


def majority_right_answer(
    samples: Sequence[str], question: OpenQuestion, *, wording: RefusalWording = ENGLISH
) -> str | None:
    """The model's own most frequent right answer, or None where no sample is right.

    Of each sample the first line with text counts, and only if it is right by itself. Lines that normalise alike are
    one answer, shown as most often written; ties go to the earliest.
    """
    lines = [line for sample in samples if (line := _first_line(sample))]
    right = [line for line in lines if judge(line, question, wording=wording).outcome is Outcome.RIGHT]
    if not right:
        return None
    # Counter keeps first-seen order among equals, so most_common(1) is the earliest of the most frequent.
    winner = Counter(map(normalise, right)).most_common(1)[0][0]
    return Counter(line for line in right if normalise(line) == winner).most_common(1)[0][0]


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
