"""Reads a JSON list value by value: a file of 256 MiB takes a few MiB of memory."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO

from craft.errors import DatasetInvalid
from craft_datasets.reading.foreign_formats import SAVE_AS_UTF8

_READ_BYTES = 1 << 20
_MAX_CHARACTERS = 8 << 20
_IN_NUMBERS = "0123456789+-.eE"
_SPACE = re.compile(r"[ \t\n\r]*")
# This parser only finds where a value ends. A stricter one reads the value.
_BORDERS = json.JSONDecoder(parse_int=str, parse_float=str)


def values(file: IO[bytes], *, read_bytes: int = _READ_BYTES) -> Iterator[str]:
    """Yield the text of each of the list's values, in order. Reads at least `read_bytes` at a time.

    Raises DatasetInvalid if the file is no JSON list, and if a value has no end within 8 MiB.
    """
    try:
        yield from _values(_Window(file, read_bytes))
    except (UnicodeDecodeError, RecursionError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else "it is nested too deeply"
        hint = SAVE_AS_UTF8 if isinstance(error, UnicodeDecodeError) else None
        raise DatasetInvalid(f"The file is not valid JSON: {reason}.", hint=hint) from error


class _Window:
    """The part of the file that is in memory. Values that were read are dropped."""

    def __init__(self, file: IO[bytes], read_bytes: int) -> None:
        self._file = file
        self._read_bytes = read_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._line = "", 0, 1

    def next(self) -> str:
        """The next character that is no white space, without taking it; empty at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_on():
                return ""

    def take(self) -> str:
        """Take the next character that is no white space."""
        found = self.next()
        self._at += len(found)
        return found

    def value(self) -> str:
        """Take the text of the value that begins here."""
        while True:
            problem = "the file ends too early"
            try:
                _, end = _BORDERS.raw_decode(self._text, self._at)
                # A number may go on after its first digits ("0" of "0.5"): it ends where another character follows.
                if end < len(self._text) and self._text[end] not in _IN_NUMBERS:
                    begin, self._at = self._at, end
                    return self._text[begin:end]
            except json.JSONDecodeError as error:
                problem = error.msg
            if len(self._text) - self._at > _MAX_CHARACTERS or not self._read_on():
                raise self.invalid(problem)

    def invalid(self, problem: str) -> DatasetInvalid:
        """The error to raise for a problem at this place."""
        line = self._line + self._text.count("\n", 0, self._at)
        return DatasetInvalid(
            f"The file is not valid JSON: {problem} (in what begins on line {line}).",
            hint="It is a list of objects, none of them longer than 8 MiB. Or upload JSONL: one object a line.",
        )

    def _read_on(self) -> bool:
        # It doubles the text in memory, so that a long value is parsed a few times, not once for each piece.
        raw = self._file.read(max(self._read_bytes, len(self._text) - self._at))
        self._line += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + self._decoder.decode(raw, final=not raw), 0
        return bool(raw)


def _values(window: _Window) -> Iterator[str]:
    if window.take() != "[":
        raise window.invalid("it is no list")
    if window.next() == "]":
        window.take()
    else:
        yield window.value()
        while (follows := window.take()) == ",":
            window.next()
            yield window.value()
        if follows != "]":
            raise window.invalid("a comma or the list's end is missing")
    if window.next():
        raise window.invalid("something follows after the list")
