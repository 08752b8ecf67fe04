"""Refusals by category: the share that the models refuse, and the part of it that M0 answers right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from craft.contracts.documents.evaluation import INITIAL_BASIC
from craft.contracts.stages.rows import OutcomeRow
from craft.core.evaluated import NO_CATEGORY
from craft.core.judging.answers import Outcome
from craft_scoring.report.charts import Segment, stacked
from craft_scoring.report.texts import plain_text

MAX_CATEGORIES = 30
OTHERS = "all others"


@dataclass(frozen=True, slots=True)
class CategoryCell:
    """One model's refusals in one category, as shares of its questions."""

    refused: float
    over_refused: float
    bar: list[Segment]


@dataclass(frozen=True, slots=True)
class CategoryRow:
    """One category: its size, the share that M0 answers right, and each refusing model's cell."""

    name: str
    count: int
    initial_right: float
    cells: list[CategoryCell]


def category_rows(models: Mapping[str, Sequence[OutcomeRow]], refusing: Sequence[str]) -> list[CategoryRow]:
    """The largest categories, largest first, and then one row for all others."""
    sizes: dict[str, int] = {}
    for row in models[INITIAL_BASIC]:
        name = row.category or NO_CATEGORY
        sizes[name] = sizes.get(name, 0) + 1
    largest = sorted(sizes, key=lambda name: (-sizes[name], name))
    shown = largest if len(largest) <= MAX_CATEGORIES else [*largest[: MAX_CATEGORIES - 1], OTHERS]
    place = {name: name if name in shown else OTHERS for name in sizes}
    known = {row.id for row in models[INITIAL_BASIC] if row.outcome is Outcome.RIGHT}
    grouped = {model: _grouped(models[model], place) for model in (INITIAL_BASIC, *refusing)}
    rows = []
    for name in shown:
        initial = grouped[INITIAL_BASIC][name]
        right = sum(row.id in known for row in initial) / len(initial)
        cells = [_cell(grouped[model][name], known) for model in refusing]
        rows.append(CategoryRow(name=plain_text(name, 80), count=len(initial), initial_right=right, cells=cells))
    return rows


def _grouped(rows: Sequence[OutcomeRow], place: Mapping[str, str]) -> dict[str, list[OutcomeRow]]:
    groups: dict[str, list[OutcomeRow]] = {}
    for row in rows:
        groups.setdefault(place[row.category or NO_CATEGORY], []).append(row)
    return groups


def _cell(rows: Sequence[OutcomeRow], known: set[str]) -> CategoryCell:
    refused = [row for row in rows if row.outcome is Outcome.REFUSED]
    over = sum(row.id in known for row in refused) / len(rows)
    deserved = len(refused) / len(rows) - over
    return CategoryCell(
        refused=deserved + over, over_refused=over, bar=stacked([("deserved", deserved), ("over", over)])
    )
