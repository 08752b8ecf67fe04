"""Tables of text without lines, that fit their terminal: a cell that must be whole is whole in 80 columns too."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.cells import cell_len, chop_cells, set_cell_size

_GAP = "  "
_BELOW = "    "
_MIN_CUT_WIDTH = 12
_MIN_WRAPPED_WIDTH = 9


class Fit(StrEnum):
    """The place of a column in a terminal that is too narrow for all columns. In pipes all cells are whole."""

    WHOLE = "whole"
    """Always whole."""
    CUT = "cut"
    """Cut at its end, with an ellipsis."""
    WRAPPED = "wrapped"
    """In several lines."""
    BELOW = "below"
    """In lines of its own, below the row."""
    IF_ROOM = "if_room"
    """Left out."""


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column: its heading, its place in narrow terminals, and the side of its cells."""

    heading: str
    fit: Fit = Fit.WHOLE
    right: bool = False


@dataclass(frozen=True, slots=True)
class PlainTable:
    """A table. Each row has a cell for each column; a line break in a cell begins a new line of it."""

    columns: tuple[TextColumn, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str | None = None

    def lines(self, width: int | None) -> Iterator[str]:
        """The heading and the rows, in lines of at most `width` cells if the columns can have them; None: any width.

        Without a width each row is one line.
        """
        if width is None:
            yield from _Layout.whole(self).lines()
            return
        kept = _kept_columns(self, width)
        yield from _Layout.fitted(self, kept, width).lines()


@dataclass(frozen=True, slots=True)
class _Layout:
    """A table's columns side by side, and those below their rows; `widths` are those of the columns side by side."""

    table: PlainTable
    beside: tuple[int, ...]
    widths: tuple[int, ...]
    below: tuple[int, ...] = ()
    width: int | None = None

    @classmethod
    def whole(cls, table: PlainTable) -> "_Layout":
        flat = tuple(tuple(" ".join(cell.splitlines()) for cell in row) for row in table.rows)
        one_line = PlainTable(table.columns, flat)
        every = tuple(range(len(table.columns)))
        return cls(one_line, every, tuple(_natural(one_line, number) for number in every))

    @classmethod
    def fitted(cls, table: PlainTable, beside: tuple[int, ...], width: int) -> "_Layout":
        below = tuple(n for n, column in enumerate(table.columns) if column.fit is Fit.BELOW and n not in beside)
        widths = [_least(table, number) for number in beside]
        # The first of the flexible columns are the most telling: they grow first.
        left = width - sum(widths) - len(_GAP) * (len(beside) - 1)
        for place, number in enumerate(beside):
            more = max(0, min(left, _natural(table, number) - widths[place]))
            widths[place] += more
            left -= more
        return cls(table, beside, tuple(widths), below, width)

    def lines(self) -> Iterator[str]:
        columns = self.table.columns
        yield from self._row([columns[number].heading for number in self.beside])
        for row in self.table.rows:
            yield from self._row([row[number] for number in self.beside])
            for number in self.below:
                room = max((self.width or 0) - len(_BELOW), _MIN_WRAPPED_WIDTH)
                yield from (_BELOW + line for line in _wrapped(row[number], room) if row[number])

    def _row(self, cells: Sequence[str]) -> Iterator[str]:
        parts = [self._cell_lines(place, cell) for place, cell in enumerate(cells)]
        for number in range(max(map(len, parts), default=0)):
            texts = (part[number] if number < len(part) else "" for part in parts)
            yield _GAP.join(self._padded(place, text) for place, text in enumerate(texts)).rstrip()

    def _cell_lines(self, place: int, cell: str) -> list[str]:
        width, fit = self.widths[place], self.table.columns[self.beside[place]].fit
        if fit is Fit.WRAPPED:
            return _wrapped(cell, width)
        if fit is Fit.CUT:
            return [_cut(" ".join(cell.split()), width)]
        return cell.splitlines() or [""]

    def _padded(self, place: int, text: str) -> str:
        padding = " " * max(0, self.widths[place] - cell_len(text))
        return padding + text if self.table.columns[self.beside[place]].right else text + padding


def _kept_columns(table: PlainTable, width: int) -> tuple[int, ...]:
    """The columns that stand side by side: all, or without those below, or also without those that need room."""
    every = range(len(table.columns))
    for gone in (frozenset(), frozenset({Fit.BELOW}), frozenset({Fit.BELOW, Fit.IF_ROOM})):
        kept = tuple(number for number in every if table.columns[number].fit not in gone)
        if sum(_least(table, number) for number in kept) + len(_GAP) * (len(kept) - 1) <= width:
            return kept
    return kept


def _natural(table: PlainTable, number: int) -> int:
    """The width in which every cell of a column is whole."""
    cells = (line for row in table.rows for line in row[number].splitlines())
    return max(cell_len(table.columns[number].heading), *map(cell_len, cells), 0)


def _least(table: PlainTable, number: int) -> int:
    """The least width of a column."""
    least = {Fit.CUT: _MIN_CUT_WIDTH, Fit.WRAPPED: _MIN_WRAPPED_WIDTH}.get(table.columns[number].fit)
    natural = _natural(table, number)
    return natural if least is None else min(natural, max(least, cell_len(table.columns[number].heading)))


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines, broken after blanks and hyphens; a longer word is broken anywhere."""
    lines = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in re.split(r"(?<=[\s-])", paragraph):
            if cell_len(line + word.rstrip()) > width and line:
                lines.append(line.rstrip())
                line = ""
            *whole, rest = chop_cells(word, width) if cell_len(word.rstrip()) > width else [word]
            lines += whole
            line += rest
        lines.append(line.rstrip())
    return lines
