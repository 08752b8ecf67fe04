"""Counts of what a model replied: the numbers on which guards and diagnoses rest."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from craft.core.findings import MAX_EXAMPLES
from craft.core.judging.text import normalise
from craft.core.judging.wordings.base import RefusalWording
from craft.core.questions import ChoiceQuestion, OpenQuestion
from craft.core.replies.reply import AskedQuestion, FinishReason, reply_excerpt, shortened
from craft.core.replies.traits import QuestionTrait, ReplyTrait, question_traits, reply_traits

_COMPARED = 80
"""Characters of a normalised reply that are compared with other replies."""


@dataclass(slots=True)
class ReplyCensus:
    """The counts of a stage's replies so far, and the first excerpts with each trait, of different questions.

    `first_replies` counts the normalised first reply to each question: equal ones show a model that does not read.
    """

    wording: RefusalWording
    questions: int = 0
    open_questions: int = 0
    replies: int = 0
    traits: Counter[ReplyTrait] = field(default_factory=Counter)
    question_traits: Counter[QuestionTrait] = field(default_factory=Counter)
    first_replies: Counter[str] = field(default_factory=Counter)
    excerpts: dict[ReplyTrait, list[str]] = field(default_factory=dict)

    def add(self, asked: Iterable[AskedQuestion]) -> None:
        """Count the replies to further questions."""
        for each in asked:
            self._add(each)

    def share(self, *traits: ReplyTrait) -> float:
        """The share of replies with one of the traits, of which a reply has at most one; 0 without replies."""
        return sum(self.traits[trait] for trait in traits) / max(1, self.replies)

    def question_share(self, trait: QuestionTrait) -> float:
        """The share of questions with the trait; 0 without questions."""
        return self.question_traits[trait] / max(1, self.questions)

    @property
    def most_alike(self) -> tuple[str, int]:
        """The most common first reply, normalised, and its number of questions."""
        return max(self.first_replies.items(), key=lambda item: item[1], default=("", 0))

    def examples(self, *traits: ReplyTrait) -> tuple[str, ...]:
        """At most three excerpts, of the first of the traits that has any."""
        return next((tuple(self.excerpts[trait]) for trait in traits if trait in self.excerpts), ())

    def _add(self, asked: AskedQuestion) -> None:
        question, right = asked.question, 0
        shown: set[ReplyTrait] = set()
        for text, finish in zip(asked.replies, asked.finishes, strict=True):
            traits = reply_traits(text, finish, question, wording=self.wording)
            right += ReplyTrait.RIGHT in traits
            self.traits.update(traits)
            wanted = [trait for trait in traits - shown if len(self.excerpts.get(trait, ())) < MAX_EXAMPLES]
            for trait in wanted:
                excerpt = reply_excerpt(question, text, cut=finish is FinishReason.LENGTH)
                self.excerpts.setdefault(trait, []).append(excerpt)
            shown |= traits
        self.questions += 1
        self.open_questions += isinstance(question, OpenQuestion)
        self.replies += len(asked.replies)
        self.question_traits.update(question_traits(question, right=right, replies=len(asked.replies)))
        self.first_replies[normalise(asked.replies[0])[:_COMPARED]] += 1


@dataclass(slots=True)
class LetterCensus:
    """The counts of a multiple-choice probe so far: the letters' probability, and the letter that each model chose."""

    questions: int = 0
    mass: float = 0.0
    right: int = 0
    chance: float = 0.0
    """The number of questions that guessing answers right."""
    chosen: Counter[str] = field(default_factory=Counter)
    keyed: Counter[str] = field(default_factory=Counter)
    """The right letters."""
    excerpts: dict[bool, list[str]] = field(default_factory=lambda: {True: [], False: []})
    """Excerpts of questions by: the right letter is the most likely one."""

    def add(self, scored: Iterable[tuple[ChoiceQuestion, Sequence[float]]]) -> None:
        """Count further questions with the natural-log probabilities of their letters."""
        for question, logprobs in scored:
            self._add(question, logprobs)

    @property
    def mean_mass(self) -> float:
        """The mean probability of all offered letters together."""
        return self.mass / max(1, self.questions)

    def examples(self, *, right: bool) -> tuple[str, ...]:
        """At most three excerpts of questions that are answered right, or wrong."""
        return tuple(self.excerpts[right])

    def _add(self, question: ChoiceQuestion, logprobs: Sequence[float]) -> None:
        probabilities = [math.exp(value) for value in logprobs]
        mass = sum(probabilities)
        letter = question.letters[probabilities.index(max(probabilities))]
        is_right = letter == question.answer_letter
        self.questions += 1
        self.mass += min(1.0, mass)
        self.right += is_right
        self.chance += 1 / len(question.choices)
        self.chosen[letter] += 1
        self.keyed[question.answer_letter] += 1
        kept = self.excerpts[is_right]
        if len(kept) < MAX_EXAMPLES:
            kept.append(
                f"“{shortened(question.question, 50)}” → {letter} (right: {question.answer_letter}; probability of all "
                f"letters: {min(1.0, mass):.2f})"
            )
