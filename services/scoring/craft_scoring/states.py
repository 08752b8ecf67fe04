"""Knowledge states of many questions: the core computes them, this file batches the embeddings."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from craft.contracts.stages.rows import StateRow
from craft.core.judging.wordings.base import RefusalWording
from craft.core.knowledge import KnowledgeState, choice_state, open_state
from craft.core.questions import ChoiceQuestion, OpenQuestion
from craft_scoring.embedding.embedder import Embedder, embed_once

QUESTIONS_AT_ONCE = 500
"""Limits memory: 500 questions with 10 samples each are at most 5,000 embeddings."""


def open_states(
    sampled: Sequence[tuple[OpenQuestion, Sequence[str]]], *, embedder: Embedder, wording: RefusalWording
) -> Iterator[StateRow]:
    """The state of each open-ended question from its sampled replies, in order."""
    for start in range(0, len(sampled), QUESTIONS_AT_ONCE):
        part = sampled[start : start + QUESTIONS_AT_ONCE]
        embeddings = embed_once(embedder, [sample for _, samples in part for sample in samples])
        for (question, samples), rows in zip(part, _by_question(embeddings, part), strict=True):
            yield _row(question.id, open_state(samples, rows, question, wording=wording))


def choice_state_row(question_id: str, logprobs: Sequence[float | None], answer: int) -> StateRow:
    """The state of one multiple-choice question. None means a probability of 0 (JSON has no minus infinity)."""
    result = choice_state([-math.inf if value is None else value for value in logprobs], answer)
    return _row(question_id, result.state, letter_mass=result.letter_mass)


def choice_states(scored: Sequence[tuple[ChoiceQuestion, Sequence[float | None]]]) -> Iterator[StateRow]:
    """The state of each multiple-choice question from its letters' log-probabilities, in order."""
    for question, logprobs in scored:
        yield choice_state_row(question.id, logprobs, question.answer)


def _by_question(
    embeddings: NDArray[np.float32], part: Sequence[tuple[OpenQuestion, Sequence[str]]]
) -> Iterator[NDArray[np.float32]]:
    end = 0
    for _, samples in part:
        end += len(samples)
        yield embeddings[end - len(samples) : end]


def _row(question_id: str, state: KnowledgeState, *, letter_mass: float | None = None) -> StateRow:
    return StateRow(id=question_id, correctness=state.correctness, certainty=state.certainty, letter_mass=letter_mass)
