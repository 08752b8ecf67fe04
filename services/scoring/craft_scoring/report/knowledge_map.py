"""The knowledge map: correctness × certainty of every training question, before and after rehearsal, and the flow.

Thousands of dots stay small and readable: each decision's dots are paths of zero-length strokes with round caps (ten
bytes for each dot instead of fifty). The flow is a grid of mean arrows, one for each decision in a cell.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from craft.contracts.stages.rows import Decision, DecisionRow, StateRow
from craft.core.questions import id_hash
from craft.core.selection import DropReason

SIZE = 300.0
STRIP = 46.0
GRID = 10
ARROW_GRID = 5
DOTS_IN_A_PATH = 40
FEW = 120
"""With at most this many questions, each gets an arrow of its own."""
SHORTEST_ARROW = 3.0
GROUPS = ("van", "idk", "dynamic", "static", "undecided")


class Spot(NamedTuple):
    """A point of the map in user units; y grows downwards."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of the correctness histogram above a panel."""

    x: float
    y: float
    width: float
    height: float
    css: str


@dataclass(frozen=True, slots=True)
class Arrow:
    """A shaft with its head. `width` grows with the number of questions in `count`."""

    path: str
    head: str
    width: float
    css: str
    count: int


@dataclass(frozen=True, slots=True)
class Panel:
    """The dots of one model: paths with their CSS class, the size of a dot, and the histogram."""

    title: str
    dots: list[tuple[str, str]]
    dot_size: float
    bars: list[Bar]


@dataclass(frozen=True, slots=True)
class KnowledgeMap:
    """One strategy's map. Without rehearsal, `after` is None and `arrows` is empty."""

    before: Panel
    after: Panel | None
    arrows: list[Arrow]
    counts: dict[str, int]


def group_of(decision: DecisionRow | None) -> str:
    """The one of GROUPS to which a question belongs."""
    if decision is None:
        return "undecided"
    if decision.decision is not Decision.DROPPED:
        return decision.decision.value
    return "dynamic" if decision.reason is DropReason.DYNAMIC_CONFLICT else "static"


def knowledge_map(
    before: Mapping[str, StateRow],
    after: Mapping[str, StateRow],
    decisions: Mapping[str, DecisionRow],
    *,
    discrete: bool,
) -> KnowledgeMap:
    """The map of one strategy. `discrete`: correctness is a count over N samples, so dots get a sideways jitter."""
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for question_id in before:
        groups[group_of(decisions.get(question_id))].append(question_id)
    levels = _levels(before.values()) if discrete else GRID
    jitter = min(0.08, 0.7 / levels) if discrete else 0.0
    return KnowledgeMap(
        before=_panel("Before rehearsal: M0", before, groups, levels=levels, jitter=jitter),
        after=_panel("After rehearsal", after, groups, levels=levels, jitter=jitter) if after else None,
        arrows=_arrows(before, after, groups, levels=levels) if after else [],
        counts={group: len(ids) for group, ids in groups.items() if ids},
    )


def _levels(states: Iterable[StateRow]) -> int:
    """The number of correctness steps: the N of k/N (at most 100), derived from the smallest step above 0."""
    values = sorted({round(state.correctness, 6) for state in states} | {0.0, 1.0})
    step = min(right - left for left, right in pairwise(values))
    return max(1, min(100, round(1 / step)))


def _spot(state: StateRow, jitter: float) -> Spot:
    """The place of a state's dot: inset so that no dot leaves the panel, and moved sideways by a hash of its id."""
    shift = (id_hash(state.id, salt="map") / 2**64 - 0.5) * jitter
    return Spot(SIZE * _inset(state.correctness + shift), SIZE * (1 - _inset(state.certainty)))


def _inset(value: float) -> float:
    return 0.045 + 0.91 * value


def _panel(
    title: str, states: Mapping[str, StateRow], groups: Mapping[str, Sequence[str]], *, levels: int, jitter: float
) -> Panel:
    dots: list[tuple[str, str]] = []
    # The many dropped questions are drawn first, the chosen ones on top of them.
    for group in reversed(GROUPS):
        marks = [f"M{spot.x:.1f} {spot.y:.1f}h0" for spot in (_spot(states[i], jitter) for i in groups[group])]
        dots += [(group, "".join(marks[n : n + DOTS_IN_A_PATH])) for n in range(0, len(marks), DOTS_IN_A_PATH)]
    size = min(6.0, max(2.4, 120 / math.sqrt(max(1, len(states)))))
    return Panel(title=title, dots=dots, dot_size=round(size, 1), bars=_bars(states, groups, levels=min(levels, 20)))


def _bars(states: Mapping[str, StateRow], groups: Mapping[str, Sequence[str]], *, levels: int) -> list[Bar]:
    """Stacked counts of questions by correctness, scaled to the fullest column."""
    columns: list[dict[str, int]] = [defaultdict(int) for _ in range(levels + 1)]
    for group, ids in groups.items():
        for question_id in ids:
            columns[round(states[question_id].correctness * levels)][group] += 1
    fullest = max(sum(column.values()) for column in columns) or 1
    width = min(24.0, 0.62 * SIZE * 0.91 / levels)
    bars = []
    for level, column in enumerate(columns):
        top = STRIP
        for group in GROUPS:
            height = (STRIP - 4) * column[group] / fullest
            top -= height
            if height > 0:
                left = SIZE * _inset(level / levels) - width / 2
                bars.append(Bar(round(left, 1), round(top, 2), round(width, 1), round(height, 2), group))
    return bars


def _arrows(
    before: Mapping[str, StateRow], after: Mapping[str, StateRow], groups: Mapping[str, Sequence[str]], *, levels: int
) -> list[Arrow]:
    cells: dict[tuple[str, ...], list[str]] = defaultdict(list)
    columns = min(levels, ARROW_GRID)
    for group, ids in groups.items():
        for question_id in ids:
            state = before[question_id]
            cell = (f"{round(state.correctness * columns)}", f"{int(state.certainty * 0.999 * ARROW_GRID)}")
            cells[(group, question_id) if len(before) <= FEW else (group, *cell)].append(question_id)
    fullest = max(map(len, cells.values()))
    least = 1 if len(before) <= FEW else max(2, len(before) // 400)
    arrows = [
        _arrow(
            cell[0],
            _mean([_spot(before[i], 0.0) for i in ids]),
            _mean([_spot(after[i], 0.0) for i in ids]),
            count=len(ids),
            width=1 + 4 * math.sqrt(len(ids) / fullest) if fullest > 1 else 1.2,
        )
        for cell, ids in cells.items()
        if len(ids) >= least
    ]
    return sorted((arrow for arrow in arrows if arrow is not None), key=lambda arrow: GROUPS[::-1].index(arrow.css))


def _mean(spots: Sequence[Spot]) -> Spot:
    return Spot(sum(s.x for s in spots) / len(spots), sum(s.y for s in spots) / len(spots))


def _arrow(css: str, start: Spot, end: Spot, *, count: int, width: float) -> Arrow | None:
    """The arrow from start to end; None if it is too short to see."""
    length = math.hypot(end.x - start.x, end.y - start.y)
    if length < SHORTEST_ARROW:
        return None
    along = Spot((end.x - start.x) / length, (end.y - start.y) / length)
    head = min(length, 3 + 1.6 * width)
    neck = Spot(end.x - along.x * head, end.y - along.y * head)
    half = head * 0.5
    left = Spot(neck.x - along.y * half, neck.y + along.x * half)
    right = Spot(neck.x + along.y * half, neck.y - along.x * half)
    return Arrow(
        path=f"M{start.x:.1f} {start.y:.1f}L{neck.x:.1f} {neck.y:.1f}",
        head=f"M{end.x:.1f} {end.y:.1f}L{left.x:.1f} {left.y:.1f}L{right.x:.1f} {right.y:.1f}Z",
        width=round(width, 2),
        css=css,
        count=count,
    )
