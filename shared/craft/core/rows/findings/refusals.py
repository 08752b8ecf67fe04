"""Finds answers that are refusals, quickly enough for a million rows: few are looked at closely."""

import re
from collections.abc import Iterator

from craft.core.judging.refusals import WORDINGS, is_refusal, wording_for
from craft.core.judging.text import tokens
from craft.core.judging.wordings.base import RefusalWording

_MAX_LENGTH = 200
_MAX_CLOSE_LOOKS = 100_000
"""Some 10 s of a million long answers; a count is at least what it says then."""
_WORD = re.compile(r"[a-z]+")
_APOSTROPHES = str.maketrans("", "", "'’")


def _telling(wording: RefusalWording) -> Iterator[str]:
    """A token of each refusal, its last longest one, and contractions that stand for one."""
    found = {max(reversed(tokens(each)), key=len) for each in (*wording.spoken, *wording.stated, *wording.bare)}
    yield from found
    yield from (short for short, long in wording.spellings if not found.isdisjoint(tokens(long)))


_TELLING = frozenset(word for wording in WORDINGS.values() for word in _telling(wording))


class RefusalFinder:
    """Says if answers are refusals in any language whose refusals are known."""

    def __init__(self) -> None:
        self._close_looks = 0

    def is_refusal(self, answer: str) -> bool:
        """True if a short answer is a refusal. After 100,000 close looks it is not."""
        if len(answer) > _MAX_LENGTH or not _may_refuse(answer) or self._close_looks >= _MAX_CLOSE_LOOKS:
            return False
        self._close_looks += 1
        return any(is_refusal(answer, wording_for(language)) for language in WORDINGS)


def _may_refuse(answer: str) -> bool:
    words = _WORD.findall(answer.casefold().translate(_APOSTROPHES))
    return not _TELLING.isdisjoint(words) or (not answer.isascii() and not _TELLING.isdisjoint(answer))
