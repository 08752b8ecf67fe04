"""Computes the geometry of the report's small charts in SVG user units. The template draws them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from craft.contracts.documents.evaluation import EstimateView, MetricSet
from craft.contracts.stages.rows import CurveRow

MAX_CURVE_POINTS = 400


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a stacked bar: its start and width (both in percent of the bar), its CSS class and its share."""

    start: float
    width: float
    css: str
    share: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Whisker:
    """An estimate on a common scale, in percent of the width. An undefined estimate has no `value`."""

    zero: float
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class CurveLine:
    """One curve: SVG paths of the raw and the smoothed values."""

    name: str
    css: str
    raw: str
    smooth: str


@dataclass(frozen=True, slots=True)
class CurveChart:
    """Training curves over a common pair of axes."""

    width: float
    height: float
    lines: list[CurveLine]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def stacked(parts: Sequence[tuple[str, float]]) -> list[Segment]:
    """A bar of (CSS class, share) parts, without empty parts."""
    segments, start = [], 0.0
    for css, share in parts:
        if share > 0:
            segments.append(Segment(start=round(start * 100, 2), width=round(share * 100, 2), css=css, share=share))
        start += share
    return segments


def outcome_bar(metrics: MetricSet) -> list[Segment]:
    """Right, refused, unparsed and wrong as one bar."""
    parts = (("right", metrics.pc), ("refused", metrics.pr), ("unparsed", metrics.pu), ("wrong", metrics.pw))
    return stacked([(css, estimate.value or 0.0) for css, estimate in parts])


def whiskers(estimates: Sequence[EstimateView]) -> list[Whisker]:
    """Estimates on one scale that contains all of them and zero."""
    ends = [end for e in estimates for end in (e.value, e.low, e.high) if end is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.06 * (high - low) or 1.0

    def at(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low + margin) / (high - low + 2 * margin), 2)

    return [Whisker(zero=at(0.0) or 0.0, value=at(e.value), low=at(e.low), high=at(e.high)) for e in estimates]


def curve_chart(curves: Mapping[str, Sequence[CurveRow]], *, width: float = 430, height: float = 170) -> CurveChart:
    """Loss over optimiser steps. Long curves are thinned, and losses that are not finite are left out."""
    finite = {name: [row for row in rows if math.isfinite(row.loss)] for name, rows in curves.items()}
    finite = {name: rows for name, rows in finite.items() if rows}
    last = max((rows[-1].step for rows in finite.values()), default=1)
    top = max((row.loss for rows in finite.values() for row in rows), default=1.0) or 1.0
    y_ticks = ticks(top)
    top = max(top, y_ticks[-1])

    def path(points: Sequence[tuple[int, float]]) -> str:
        step = max(1, math.ceil(len(points) / MAX_CURVE_POINTS))
        kept = [*points[:-1:step], points[-1]]
        spots = [f"{width * x / max(1, last):.1f} {height * (1 - y / top):.1f}" for x, y in kept]
        return "M" + "L".join(spots if len(spots) > 1 else spots * 2)

    lines = [
        CurveLine(
            name=name,
            css=f"series{number % 6}",
            raw=path([(row.step, row.loss) for row in rows]),
            smooth=path(list(zip([row.step for row in rows], _smoothed([row.loss for row in rows]), strict=True))),
        )
        for number, (name, rows) in enumerate(finite.items())
    ]
    return CurveChart(
        width=width,
        height=height,
        lines=lines,
        x_ticks=[Tick(width * t / max(1, last), f"{t:g}") for t in _numbers(last) if t == int(t) and t <= last],
        y_ticks=[Tick(height * (1 - t / top), f"{t:g}") for t in y_ticks],
    )


def ticks(top: float) -> list[float]:
    """Round numbers from 0 to at least `top`, about four steps."""
    numbers = _numbers(top)
    return numbers if numbers[-1] >= top else [*numbers, numbers[-1] + numbers[1]]


def _numbers(top: float) -> list[float]:
    rough = top / 4
    unit = 10 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * 0.999)
    return [round(step * n, 10) for n in range(int(top / step + 1e-9) + 1)]


def _smoothed(values: Sequence[float]) -> list[float]:
    """The mean over a symmetric window around each step, a tenth of the curve wide, so that it has no lag."""
    reach = len(values) // 20
    sums = [0.0, *accumulate(values)]
    smooth = []
    for at in range(len(values)):
        side = min(reach, at, len(values) - 1 - at)
        smooth.append((sums[at + side + 1] - sums[at - side]) / (2 * side + 1))
    return smooth
