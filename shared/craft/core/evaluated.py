"""Evaluated questions, joined by id and counted by their outcomes under each model."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from craft.core.judging.answers import Outcome
from craft.errors import DatasetInvalid, MissingStates

NO_CATEGORY = "uncategorised"
OUTCOMES = tuple(Outcome)
_INDEX = {outcome: position for position, outcome in enumerate(OUTCOMES)}


class Evaluated(NamedTuple):
    """The outcome of one question."""

    id: str
    outcome: Outcome
    category: str | None = None


def crossed(*models: Sequence[Evaluated]) -> dict[str, NDArray[np.int64]]:
    """For each category, the number of questions with outcome i under the first model, j under the second, and so on.

    Questions are joined by id, never by position. A question's category is the first one that a model gives;
    categories are sorted. Raises DatasetInvalid for no question or a repeated id, and MissingStates for an id that one
    model lacks.
    """
    tables = [_by_id(model) for model in models]
    ids = tables[0].keys()
    if not ids:
        raise DatasetInvalid("nothing was evaluated", hint="give at least one held-out question")
    for table in tables[1:]:
        if missing := sorted(table.keys() ^ ids):
            raise MissingStates(
                f"{len(missing)} questions were not evaluated under every model",
                hint=f"for example {', '.join(missing[:3])}",
            )
    counts: dict[str, NDArray[np.int64]] = {}
    for question_id in ids:
        rows = [table[question_id] for table in tables]
        category = next((row.category for row in rows if row.category), NO_CATEGORY)
        cells = counts.setdefault(category, np.zeros((len(OUTCOMES),) * len(models), dtype=np.int64))
        cells[tuple(_INDEX[row.outcome] for row in rows)] += 1
    return dict(sorted(counts.items()))


def _by_id(rows: Sequence[Evaluated]) -> Mapping[str, Evaluated]:
    by_id = {row.id: row for row in rows}
    if len(by_id) != len(rows):
        raise DatasetInvalid(f"{len(rows) - len(by_id)} evaluated questions have an id that comes more than once")
    return by_id
