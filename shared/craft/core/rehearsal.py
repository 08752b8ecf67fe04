"""Selects the questions of the rehearsal, a short trial tuning on what the model knows best (no replay of old data)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from craft.core.knowledge import KnowledgeState
from craft.core.questions import id_hash
from craft.core.strategies import Shortage
from craft.errors import RequestInvalid, TooFewKnown

DEFAULT_THRESHOLD = 0.99
DEFAULT_RELAX_STEPS = (0.99, 0.9, 0.75, 0.5)


@dataclass(frozen=True, slots=True)
class RehearsalSelection:
    """The chosen ids, best known first, the threshold that was used, and all thresholds that were tried, in order."""

    ids: tuple[str, ...]
    threshold: float
    tried: tuple[float, ...]


def default_rehearsal_count(questions: int) -> int:
    """min(1000, 10 %) of the questions, rounded up, and at least 1."""
    return max(1, min(1000, math.ceil(questions / 10)))


def rehearsal_questions(
    states: Mapping[str, KnowledgeState],
    *,
    count: int,
    threshold: float = DEFAULT_THRESHOLD,
    relax_steps: Sequence[float] = DEFAULT_RELAX_STEPS,
    shortage: Shortage = Shortage.SHRINK,
) -> RehearsalSelection:
    """The `count` questions with the highest correctness, then certainty, then id hash.

    Both correctness and certainty are at least a threshold. Where `threshold` leaves too few questions, "error" raises.
    "shrink" tries the lower relax steps and takes what the last one gives. "fill" then also takes every question with
    at least one right answer, because only these have an own right answer to rehearse. Raises TooFewKnown if no
    question is left.
    """
    if count < 1:
        raise RequestInvalid("the rehearsal set needs at least one question", param="rehearsal.size")
    ranked = sorted(
        (question_id for question_id, state in states.items() if state.correctness > 0),
        key=lambda question_id: (
            -states[question_id].correctness,
            -states[question_id].certainty,
            id_hash(question_id, salt="tie"),
        ),
    )
    steps = [threshold]
    if shortage is not Shortage.ERROR:
        steps += sorted((step for step in relax_steps if step < threshold), reverse=True)
    if shortage is Shortage.FILL:
        steps.append(0.0)
    chosen: list[str] = []
    for tried, step in enumerate(steps, start=1):
        chosen = [question_id for question_id in ranked if min(states[question_id]) >= step]
        if len(chosen) >= count:
            return RehearsalSelection(tuple(chosen[:count]), step, tuple(steps[:tried]))
    if not chosen or shortage is Shortage.ERROR:
        raise TooFewKnown(
            f"{count} well-known questions are wanted for rehearsal, but {len(chosen)} reach {steps[-1]}",
            hint="lower the probe temperature, the rehearsal threshold or its size, or give easier or more data",
            param="rehearsal",
        )
    return RehearsalSelection(tuple(chosen), steps[-1], tuple(steps))
