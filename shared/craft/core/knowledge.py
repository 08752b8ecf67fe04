"""Knowledge states: the correctness and certainty of a model on one question."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from craft.core.judging.answers import Outcome, judge
from craft.core.judging.wordings.base import RefusalWording
from craft.core.questions import OpenQuestion
from craft.errors import RequestInvalid

# A bf16 engine may round log-probabilities up, so that the letters' mass exceeds 1 by this much.
MASS_TOLERANCE = 0.02


class KnowledgeState(NamedTuple):
    """Correctness mu and certainty sigma, each in [0, 1]."""

    correctness: float
    certainty: float


class LetterState(NamedTuple):
    """The state of a multiple-choice question.

    `letter_mass` is the probability of all offered letters together, before renormalisation; `probabilities` are the
    renormalised ones, in the order of the options.
    """

    state: KnowledgeState
    letter_mass: float
    probabilities: tuple[float, ...]


def correctness_of(samples: Sequence[str], question: OpenQuestion, *, wording: RefusalWording) -> float:
    """The share of sampled answers that are right. Raises RequestInvalid if there is no sample."""
    if not samples:
        raise RequestInvalid(f"question {question.id} has no samples", param="samples")
    right = sum(judge(sample, question, wording=wording).outcome is Outcome.RIGHT for sample in samples)
    return right / len(samples)


def certainty_of(embeddings: NDArray[np.floating]) -> float:
    """Mean pairwise cosine of N embeddings (N, D), clipped to [0, 1], in float64.

    For unit vectors this is (‖Σe‖² − N) / (N(N−1)): N additions instead of N² products. Rows need not have unit length;
    a zero row has cosine 0 with every other row. A single embedding is certain (1.0), since nothing disagrees with it.
    Raises RequestInvalid for no row or a number that is not finite.
    """
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0 or not np.isfinite(rows).all():
        raise RequestInvalid(
            "embeddings must be a table of finite numbers, one row for each sample", param="embeddings"
        )
    count = len(rows)
    if count == 1:
        return 1.0
    # Scaled by their largest part first, so that squares of very small or large rows do not under- or overflow.
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    scaled = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    units = np.divide(scaled, lengths, out=np.zeros_like(scaled), where=lengths > 0)
    total = units.sum(axis=0)
    cosines = float(total @ total) - float(np.einsum("nd,nd->", units, units))
    return min(1.0, max(0.0, cosines / (count * (count - 1))))


def open_state(
    samples: Sequence[str], embeddings: NDArray[np.floating], question: OpenQuestion, *, wording: RefusalWording
) -> KnowledgeState:
    """The state of an open-ended question from its sampled answers and their embeddings, one row for each answer."""
    if len(samples) != len(embeddings):
        raise RequestInvalid(f"{len(samples)} samples, but {len(embeddings)} embeddings", param="embeddings")
    return KnowledgeState(correctness_of(samples, question, wording=wording), certainty_of(embeddings))


def choice_state(logprobs: Sequence[float], answer: int) -> LetterState:
    """The state of a multiple-choice question from the natural log-probabilities of its letters, in their order.

    All letters are renormalised together. −inf is a probability of 0. If every letter is −inf, the model says nothing
    about the options: uniform probabilities, certainty 0, mass 0. Raises RequestInvalid for NaN, for numbers that are
    not log-probabilities (a sum above 1) and for an `answer` outside the letters.
    """
    values = np.asarray(logprobs, dtype=np.float64)
    count = len(values)
    if count < 2 or not 0 <= answer < count:
        raise RequestInvalid(f"answer {answer} is not one of {count} letters (2 or more are needed)", param="answer")
    peak = float(values.max())
    if math.isnan(peak) or peak > math.log1p(MASS_TOLERANCE):
        raise RequestInvalid("logprobs must be natural log-probabilities: no NaN, at most 0", param="logprobs")
    if peak == -math.inf:
        uniform = (1 / count,) * count
        return LetterState(KnowledgeState(uniform[answer], 0.0), 0.0, uniform)
    weights = np.exp(values - peak)
    mass = math.exp(peak) * float(weights.sum())
    if mass > 1 + MASS_TOLERANCE:
        raise RequestInvalid(f"the letters' probabilities add up to {mass:.3f}, more than 1", param="logprobs")
    shares = weights / weights.sum()
    present = shares[shares > 0]
    entropy = -float((present * np.log(present)).sum())
    certainty = min(1.0, max(0.0, 1 - entropy / math.log(count)))
    probabilities = tuple(float(share) for share in shares)
    return LetterState(KnowledgeState(probabilities[answer], certainty), min(1.0, mass), probabilities)
