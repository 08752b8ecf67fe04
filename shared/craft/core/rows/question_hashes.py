"""Finds questions that come twice, in one dataset or in two, by 64-bit hashes: millions fit in memory."""

import hashlib
import re
import unicodedata
from array import array
from typing import NamedTuple

from craft.core.judging.text import normalise
from craft.core.questions import OpenQuestion, Question
from craft.core.rows.findings.markup import visible

_FIRST_SLOTS = 1 << 10
_FINAL_MARKS = " ?.!。？！"
_AROUND = " \"'.,;:!?。"
_ARTICLE = re.compile(r"^(?:the|an?) ")
_QUOTES = {
    **dict.fromkeys(map(ord, "“”„«»"), '"'),
    **dict.fromkeys(map(ord, "‘’‛`´"), "'"),
    **dict.fromkeys(map(ord, "‐‑–—"), "-"),
}


def question_hash(question: str) -> int:
    """A 64-bit hash, the same for questions that differ in case, accents, articles, punctuation and spaces only.

    Among a million different questions, two have the same hash with a chance of 3 in 100 million.
    """
    # A question without a letter or a digit ("???") is compared as it stands.
    plain = normalise(question) or question
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest(), "little")


class FirstSeen:
    """The line on which each hash came first. It takes 12 bytes a slot; a dictionary takes a hundred and more."""

    def __init__(self) -> None:
        self._slots = _FIRST_SLOTS
        self._hashes = array("Q", bytes(8 * _FIRST_SLOTS))
        self._lines = array("I", bytes(array("I").itemsize * _FIRST_SLOTS))
        self._count = 0

    def seen(self, hashed: int, line: int) -> int | None:
        """The line (from 1) on which the hash came before; None if it is new, and then remember `line`."""
        at = self._slot(hashed)
        if self._lines[at]:
            return self._lines[at]
        self._hashes[at], self._lines[at] = hashed, line
        self._count += 1
        if self._count * 3 > self._slots * 2:
            self._grow()
        return None

    def _slot(self, hashed: int) -> int:
        # Open addressing with linear probing: the last bits of a hash are as good as any.
        at, hashes, lines, last = hashed & (self._slots - 1), self._hashes, self._lines, self._slots - 1
        while lines[at] and hashes[at] != hashed:
            at = (at + 1) & last
        return at

    def _grow(self) -> None:
        hashes, lines = self._hashes, self._lines
        self._slots *= 2
        self._hashes = array("Q", bytes(8 * self._slots))
        self._lines = array("I", bytes(lines.itemsize * self._slots))
        for hashed, line in zip(hashes, lines, strict=True):
            if line:
                at = self._slot(hashed)
                self._hashes[at], self._lines[at] = hashed, line


class Repetition(NamedTuple):
    """The question came before, on `first_line`; `contradicts` if no earlier row gives the same answer."""

    first_line: int
    contradicts: bool


class AskedBefore:
    """The questions so far, with the answers that they had. Case, spaces and the final mark make no difference.

    Nor do the forms of quotes and accents, and invisible characters; in answers also a leading article and the
    punctuation around them.

    Questions of multiple choice are the same if their options are the same too, in any order.
    """

    def __init__(self) -> None:
        self._asked, self._taught, self._accepted = FirstSeen(), FirstSeen(), FirstSeen()

    def seen(self, question: Question, line: int) -> Repetition | None:
        """The repetition that the row at `line` is; None if its question is new. It is remembered."""
        asked = _plain(question.question).rstrip(_FINAL_MARKS)
        if isinstance(question, OpenQuestion):
            taught, accepted = question.answers[0], question.answers
        else:
            taught, accepted = question.choices[question.answer], (question.choices[question.answer],)
            asked = "\0".join((asked, *sorted(_plain(choice) for choice in question.choices)))
        first = self._asked.seen(text_hash(asked), line)
        taught_line = self._taught.seen(text_hash(f"{asked}\1{_bare(taught)}"), line)
        of_all = "\0".join(sorted({_bare(answer) for answer in accepted}))
        accepted_line = self._accepted.seen(text_hash(f"{asked}\1{of_all}"), line)
        if first is None:
            return None
        return Repetition(first, contradicts=taught_line is None and accepted_line is None)


def _plain(text: str) -> str:
    """`text` without regard to case, spaces, the form of its quotes and accents, and invisible characters."""
    if not text.isascii():
        text = visible(unicodedata.normalize("NFC", text)).translate(_QUOTES)
    return " ".join(text.casefold().split())


def _bare(answer: str) -> str:
    """An answer for comparison: also without a leading article and the punctuation around it."""
    plain = _plain(answer)
    return _ARTICLE.sub("", plain.strip(_AROUND)) or plain


def text_hash(text: str) -> int:
    """A 64-bit hash of the exact text. It differs between processes."""
    return hash(text) & (2**64 - 1)
