"""Questions that are asked twice, in one dataset or in two: found by 64-bit marks, so that millions fit in memory."""

import hashlib
from array import array

from craft.core.judging.text import normalise

_FIRST_SLOTS = 1 << 10


def question_hash(question: str) -> int:
    """The same number for questions that differ in case, accents, articles, punctuation and spaces only.

    64 bits of a hash: among a million questions, two different ones share one with a chance of 3 in 100 million.
    """
    # What holds no letter and no digit ("???") is compared as it stands.
    plain = normalise(question) or question
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest(), "little")


class FirstSeen:
    """On which line each text came first. 12 bytes a slot, where a dictionary of texts needs a hundred and more."""

    def __init__(self) -> None:
        self._slots = _FIRST_SLOTS
        self._marks = array("Q", bytes(8 * _FIRST_SLOTS))
        self._lines = array("I", bytes(array("I").itemsize * _FIRST_SLOTS))
        self._held = 0

    def seen(self, mark: int, line: int) -> int | None:
        """The line (from 1) on which the mark came before; where it is new it is remembered with `line`."""
        at = self._find(mark)
        if self._lines[at]:
            return self._lines[at]
        self._marks[at], self._lines[at] = mark, line
        self._held += 1
        if self._held * 3 > self._slots * 2:
            self._grow()
        return None

    def _find(self, mark: int) -> int:
        # Open addressing, linear: marks are hashes, so that their last bits are as good as any.
        at, marks, lines, last = mark & (self._slots - 1), self._marks, self._lines, self._slots - 1
        while lines[at] and marks[at] != mark:
            at = (at + 1) & last
        return at

    def _grow(self) -> None:
        marks, lines = self._marks, self._lines
        self._slots *= 2
        self._marks = array("Q", bytes(8 * self._slots))
        self._lines = array("I", bytes(lines.itemsize * self._slots))
        for mark, line in zip(marks, lines, strict=True):
            if line:
                at = self._find(mark)
                self._marks[at], self._lines[at] = mark, line


def text_hash(text: str) -> int:
    """A mark of the exact text, good within this process."""
    return hash(text) & (2**64 - 1)
