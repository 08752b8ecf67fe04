"""Evaluated questions, joined by id, as counts of outcome against outcome."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from craft.core.answers import Outcome
from craft.errors import DatasetInvalid, MissingStates

NO_CATEGORY = "uncategorised"
OUTCOMES = tuple(Outcome)
_INDEX = {outcome: position for position, outcome in enumerate(OUTCOMES)}


class Evaluated(NamedTuple):
    """What became of one question."""

    id: str
    outcome: Outcome
    category: str | None = None


def crossed(*models: Sequence[Evaluated]) -> dict[str, NDArray[np.int64]]:
    """For each category, how many questions had outcome i under the first model, j under the second, and so on.

    The questions are joined on their ids, never on their position; categories are the first model's, sorted. Raises
    DatasetInvalid for no question or an id that comes twice, MissingStates for an id that one model lacks.
    """
    first, *others = models
    tables = [_by_id(model) for model in others]
    if not first:
        raise DatasetInvalid("nothing was evaluated", hint="give at least one held-out question")
    own = _by_id(first)
    for table in tables:
        if table.keys() != own.keys():
            missing = sorted(table.keys() ^ own.keys())
            raise MissingStates(
                f"{len(missing)} questions were not evaluated under every model",
                hint=f"for example {', '.join(missing[:3])}",
            )
    counts: dict[str, NDArray[np.int64]] = {}
    for row in first:
        cells = counts.setdefault(row.category or NO_CATEGORY, np.zeros((len(OUTCOMES),) * len(models), dtype=np.int64))
        cells[tuple(_INDEX[outcome] for outcome in (row.outcome, *(table[row.id] for table in tables)))] += 1
    return dict(sorted(counts.items()))


def _by_id(rows: Sequence[Evaluated]) -> Mapping[str, Outcome]:
    found = {row.id: row.outcome for row in rows}
    if len(found) != len(rows):
        raise DatasetInvalid(f"{len(rows) - len(found)} evaluated questions have an id that comes more than once")
    return found
