"""Judges replies: right, wrong, refused or unparsed."""

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
    """The judgement of one reply. Each evaluated question has exactly one; none leaves the denominator."""

    RIGHT = "right"
    WRONG = "wrong"
    REFUSED = "refused"
    UNPARSED = "unparsed"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome, and the part of the reply that decided it: the matching accepted answer, the letter, or None."""

    outcome: Outcome
    parsed: str | None = None


# In "A is" and "I stands for" they are letters; before any other word they are an article and a pronoun.
_LETTER_NAMES = {
    letter: re.compile(
        rf"(?<![^\W_])(?<![^\W_]\.)[{letter.upper()}{letter}](?![{APOSTROPHES}.]?[^\W_])"
        r"(?!\s+(?!(?:is|stands|and|or|for|represents|means)\b)[^\W_])"
    )
    for letter in ("a", "i")
}


def matches(reply: str, answers: Iterable[str]) -> str | None:
    """The first accepted answer that appears in `reply` as whole tokens, spelled as in `answers`.

    Both are folded, lower-cased and stripped of articles and punctuation. An answer with nothing left never matches.
    If an answer ends in the word "a" ("vitamin A"), that word counts. A one-letter answer that is also an English word
    must be meant as a letter: A not as the article, I not as the pronoun.
    """
    words = tokens(reply)
    bare = " ".join(without_articles(words))
    for answer in answers:
        form = normalise(answer)
        if form in _LETTER_NAMES:
            matched = bool(_LETTER_NAMES[form].search(reply))
        elif form.endswith(" a"):
            matched = contains(_keeping_a(words), form)
        else:
            matched = contains(bare, form)
        if matched:
            return answer
    return None


def _keeping_a(words: Sequence[str]) -> str:
    return " ".join(word for word in words if word not in {"an", "the"})


def judge(reply: str, question: Question, *, wording: RefusalWording) -> Judgement:
    """Judge one reply.

    Refusals come first: "I don't know" is a refusal even where these words are an accepted answer or an option, because
    the model is taught to refuse with them. A refusal that is only stated ("Unknown") counts as an answer or option if
    it is exactly that text.
    Open-ended: right if an accepted answer matches, otherwise wrong; a reply without a letter or digit is unparsed,
    because it says nothing that could be wrong. Multiple choice: the letter of `parse_letter`; unparsed without one.
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
    """The model's own most frequent right answer, or None if no sample is right.

    The first line with text of each sample counts, if it is right by itself. Lines with the same normalised text are
    one answer, returned in its most frequent spelling; the earliest wins a tie.
    """
    lines = [line for sample in samples if (line := _first_line(sample))]
    right = [line for line in lines if judge(line, question, wording=wording).outcome is Outcome.RIGHT]
    if not right:
        return None
    # Counter keeps first-seen order among equal counts, so most_common(1) is the earliest of the most frequent.
    winner = Counter(map(normalise, right)).most_common(1)[0][0]
    return Counter(line for line in right if normalise(line) == winner).most_common(1)[0][0]


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
