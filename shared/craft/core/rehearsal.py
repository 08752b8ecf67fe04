"""Which questions the model rehearses: those it knows best."""

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
    """The chosen ids, best known first; the threshold that was used; and every threshold tried, in order."""

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
    """The `count` questions of highest correctness, then certainty, then id hash, both at least a threshold.

    Where `threshold` leaves too few: "error" raises; "shrink" goes down the relax steps below it and at the last takes
    what there is; "fill" goes on below the last step to every question of which the model got some answer right, since
    only such a one has an own right answer to rehearse. TooFewKnown where none is left.
    """
    if count < 1:
        raise RequestInvalid("the rehearsal set needs at least one question", param="rehearsal.count")
    ranked = sorted(
        (question_id for question_id, state in states.items() if state.correctness > 0),
        key=lambda each: (-states[each].correctness, -states[each].certainty, id_hash(each, salt="tie")),
    )
    steps = [threshold]
    if shortage is not Shortage.ERROR:
        steps += sorted((step for step in relax_steps if step < threshold), reverse=True)
    if shortage is Shortage.FILL:
        steps.append(0.0)
    found: list[str] = []
    for tried, step in enumerate(steps, start=1):
        found = [each for each in ranked if min(states[each]) >= step]
        if len(found) >= count:
            return RehearsalSelection(tuple(found[:count]), step, tuple(steps[:tried]))
    if not found or shortage is Shortage.ERROR:
        raise TooFewKnown(
            f"{count} well-known questions are wanted for rehearsal, but {len(found)} reach {steps[-1]}",
            hint="lower the probe temperature, the rehearsal threshold or its count, or give easier or more data",
            param="rehearsal",
        )
    return RehearsalSelection(tuple(found), steps[-1], tuple(steps))
