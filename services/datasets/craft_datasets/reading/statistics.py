"""Counts questions one by one into a dataset's statistics: a million of them take some 80 MB."""

from collections import Counter

from craft.contracts.services.datasets import DatasetStatistics, SpreadView
from craft.core.questions import OpenQuestion, Question
from craft.core.rows.distribution import distribution
from craft.core.rows.question_hashes import FirstSeen, question_hash, text_hash

_MAX_CATEGORIES = 100


class QuestionCounts:
    """The counts of the questions added so far."""

    def __init__(self) -> None:
        self.rows = 0
        self._categories: Counter[str] = Counter()
        self._texts, self._hashes = FirstSeen(), FirstSeen()
        self._same_texts = self._same_hashes = 0
        self._answers: Counter[int] = Counter()
        self._question_lengths: Counter[int] = Counter()
        self._answer_lengths: Counter[int] = Counter()

    def add(self, question: Question) -> int:
        """Count a question, and return its `question_hash`."""
        self.rows += 1
        self._categories[question.category or ""] += 1
        found = question_hash(question.question)
        self._same_texts += self._texts.seen(text_hash(question.question), self.rows) is not None
        self._same_hashes += self._hashes.seen(found, self.rows) is not None
        accepted = question.answers if isinstance(question, OpenQuestion) else question.choices
        taught = accepted[0] if isinstance(question, OpenQuestion) else accepted[question.answer]
        self._answers[len(accepted)] += 1
        self._question_lengths[len(question.question)] += 1
        self._answer_lengths[len(taught)] += 1
        return found

    def statistics(self) -> DatasetStatistics:
        """The statistics. At least one question must have been added."""
        accepted = sum(count * times for count, times in self._answers.items())
        return DatasetStatistics(
            rows=self.rows,
            categories=dict(self._categories.most_common(_MAX_CATEGORIES)),
            category_count=len(self._categories),
            duplicate_questions=self._same_texts,
            duplicate_questions_normalised=self._same_hashes,
            answers_per_question=accepted / self.rows,
            longest_question_characters=max(self._question_lengths),
            question_characters=_distribution_view(self._question_lengths),
            answer_characters=_distribution_view(self._answer_lengths),
            answers=_distribution_view(self._answers),
        )


def _distribution_view(counts: Counter[int]) -> SpreadView:
    return SpreadView(**distribution(counts)._asdict())
