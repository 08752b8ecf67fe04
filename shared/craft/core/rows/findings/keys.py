"""Notices keys of multiple choice that count from another number than they are read from: all would be off by one."""

import math
from typing import NamedTuple

from craft.core.findings import MAX_LINES, FindingCode
from craft.core.rows.options import NumberKey
from craft.errors import FindingDetail, Severity

_SURE = 1 / 8
_DOUBTFUL = 0.3
"""The chance that no key of so many rows is the first (or last) option's, if all options are right equally often.
Keys that are all off by one spoil everything, and a false alarm costs a word in the request, so little is enough."""
_MIN_SURE_ROWS = 5


class _Extreme(NamedTuple):
    """The key that should be there and is not, and the key that cannot be there and is."""

    absent: str
    beyond: str
    base: int


_EXTREMES = {
    0: _Extreme("0", "the number of their options as key", 1),
    1: _Extreme("the number of its options", "the key 0", 0),
}


class KeyNumbers:
    """The number keys of a dataset's rows so far, which are read from `base`."""

    def __init__(self, base: int, *, is_said: bool) -> None:
        self.base = base
        self._is_said = is_said
        self._rows = self._absent = 0
        self._log_chance = 0.0
        self._beyond: list[int] = []
        self._beyond_count = 0

    def add(self, key: NumberKey, line: int) -> None:
        """Count a key, in range or one beyond it."""
        self._rows += 1
        is_first, is_beyond_last = key.number == 0, key.number == key.options
        expected, beyond = (is_first, is_beyond_last) if self.base == 0 else (is_beyond_last, is_first)
        self._absent += expected
        self._log_chance += math.log1p(-1 / key.options)
        if beyond:
            self._beyond_count += 1
            if len(self._beyond) < MAX_LINES:
                self._beyond.append(line)

    def finding(self, field: str) -> FindingDetail | None:
        """The doubt about the keys, an error where it is strong; None where the request says what they count from."""
        chance = math.exp(self._log_chance)
        if self._is_said or self._absent or not self._rows or not (self._beyond or chance < _DOUBTFUL):
            return None
        extreme = _EXTREMES[self.base]
        looks = f"The keys look {extreme.base}-based, and are read as {self.base}-based: no row has "
        reason = f"the key {extreme.absent}" if self.base == 0 else f"{extreme.absent} as key"
        if self._beyond:
            have = "1 has" if self._beyond_count == 1 else f"{self._beyond_count:,} have"
            reason += f", and {have} {extreme.beyond}"
        else:
            reason += f"; by chance that would be so once in {min(1e9, 1 / max(chance, 1e-12)):,.0f} sets"
            reason += f" of {self._rows:,} rows"
        is_sure = self._beyond or (chance < _SURE and self._rows >= _MIN_SURE_ROWS)
        return FindingDetail(
            FindingCode.ANSWER_BASE,
            Severity.ERROR if is_sure else Severity.WARNING,
            f"{looks}{reason}.",
            hint=f'Say "answer_base": {extreme.base} if the first option\'s key is {extreme.base}, '
            f'"answer_base": {self.base} if it is {self.base}.',
            field=field,
            count=self._beyond_count or self._rows,
            lines=tuple(self._beyond),
        )
