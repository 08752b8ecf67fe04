"""The row errors of a dataset: the first hundred in full, and the counts of all by kind."""

import re
from collections import Counter
from collections.abc import Mapping

from craft.errors import ErrorDetail

MAX_DETAILS = 100
_MAX_KINDS = 50
_OTHER = "other"
_POSITION = re.compile(r"\[\d+\]")
_NUMBER = re.compile(r"(?<![\w`.])\d[\d,]*")


class RowErrors:
    """The row errors so far."""

    def __init__(self) -> None:
        self.total = 0
        self.details: list[ErrorDetail] = []
        self._kinds: Counter[str] = Counter()

    def add(self, detail: ErrorDetail) -> None:
        """Add the error of one more row."""
        self.total += 1
        if len(self.details) < MAX_DETAILS:
            self.details.append(detail)
        kind = _kind(detail.message)
        self._kinds[kind if kind in self._kinds or len(self._kinds) < _MAX_KINDS else _OTHER] += 1

    @property
    def counts(self) -> Mapping[str, int]:
        """Rows by kind of error, the most frequent first."""
        return dict(self._kinds.most_common())


def _kind(message: str) -> str:
    """The message without the parts that differ from row to row."""
    plain = _NUMBER.sub("…", _POSITION.sub("", message.partition(": ")[0]))
    return plain if plain.endswith(".") else f"{plain}."
