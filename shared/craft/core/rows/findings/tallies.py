"""Counts the rows that have something, with the first lines and examples: a million rows take little memory."""

import re
from collections.abc import Callable

from craft.core.findings import MAX_EXAMPLES, MAX_LINES, FindingCode
from craft.core.rows.fields import excerpt
from craft.errors import FindingDetail, Severity

_POSITION = re.compile(r"\[\d+\]")


class Tally:
    """The rows of one kind and one field so far."""

    def __init__(self) -> None:
        self.count = 0
        self._last = 0
        self._lines: list[int] = []
        self._examples: dict[str, None] = {}

    def add(self, line: int, example: str) -> None:
        """Count the row at `line`, once however often it is added in a row."""
        if line == self._last:
            return
        self._last = line
        self.count += 1
        if len(self._lines) < MAX_LINES:
            self._lines.append(line)
        if len(self._examples) < MAX_EXAMPLES:
            self._examples[excerpt(example)] = None

    def detail(self, code: FindingCode, severity: Severity, message: str, *, hint: str, field: str) -> FindingDetail:
        """The finding. `{rows}` and `{field}` in its words are filled in."""
        rows = "1 row has" if self.count == 1 else f"{self.count:,} rows have"
        return FindingDetail(
            code,
            severity,
            message.format(rows=rows, field=field),
            hint=hint.format(field=field),
            field=field,
            count=self.count,
            lines=tuple(self._lines),
            examples=tuple(self._examples),
        )


class Tallies:
    """A tally for each kind and field. Positions in a field (`answers[2]`) are left out."""

    def __init__(self) -> None:
        self._found: dict[tuple[FindingCode, str], Tally] = {}

    def add(self, code: FindingCode, field: str, line: int, example: str) -> None:
        """Count the row at `line`."""
        self._found.setdefault((code, _POSITION.sub("", field)), Tally()).add(line, example)

    def named(self, own_name: Callable[[str], str]) -> list[tuple[FindingCode, str, Tally]]:
        """All kinds, each with the user's own name of the field, and the tally; in the order of their first rows."""
        return [(code, own_name(field), tally) for (code, field), tally in self._found.items()]
