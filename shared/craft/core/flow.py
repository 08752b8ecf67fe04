"""Knowledge flow: the change of a question's state when the model rehearses what it knows."""

from collections.abc import Mapping
from typing import NamedTuple

from craft.core.knowledge import KnowledgeState
from craft.errors import MissingStates


class KnowledgeFlow(NamedTuple):
    """The state after rehearsal minus the state before it, each part in [-1, 1]."""

    correctness: float
    certainty: float


def flows(before: Mapping[str, KnowledgeState], after: Mapping[str, KnowledgeState]) -> dict[str, KnowledgeFlow]:
    """The flow of every question, joined by id, in the order of `before`.

    Raises MissingStates if only one side has an id: a lost question would silently change the tuning set.
    """
    if before.keys() != after.keys():
        lost, added = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
        raise MissingStates(
            f"{len(lost)} questions have no state after rehearsal and {len(added)} have none before it",
            hint=f"for example {', '.join((lost + added)[:3])}",
        )
    return {
        question_id: KnowledgeFlow(
            after[question_id].correctness - state.correctness, after[question_id].certainty - state.certainty
        )
        for question_id, state in before.items()
    }
