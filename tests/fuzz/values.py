"""Values at and beyond the edge of what JSON, calendars, databases and readers take, by their kind."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_DEPTH = 300
_LONG = 100_000


@dataclass(frozen=True, slots=True)
class Literal:
    """A number as it is written: Python has no value for some."""

    text: str


Value = Any
NUMBERS: tuple[Value, ...] = (
    *(sign * (2**bits + more) for bits in (31, 32, 53, 63, 64) for sign in (1, -1) for more in (-1, 0, 1)),
    *(10**30, -(10**30), 10**25, 0, -1, 1),
    *(-0.0, 5e-324, 1e-308, 1e308, -1e308, 0.1 + 0.2),
    *(Literal(text) for text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1E400", "9" * 400, "1.0")),
)
TIMES: tuple[str, ...] = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00.000000001+23:59",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31T23:59:59.999999999-23:59",
    "9999-12-31T23:59:59Z",
    "0000-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "2016-12-31T23:59:60Z",
    "2016-12-31T24:00:00Z",
    "2025-02-29T00:00:00Z",
    "2025-01-01T00:00:00+99:99",
    "-0001-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999Z",
)
TEXTS: tuple[str, ...] = (
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "a\udfffb",
    "\u202eevil\u2066x",
    "👩\u200d👩\u200d👧",
    "e" + "\u0301" * 500,
    "\ufeff",
    "\ufdfa" * 1000,
    "ﬀİſK",
    "\x1b[31m",
    "\r\n\r\n",
    "../../etc/passwd",
    "%00%ff",
    "{question}" * 2000,
    "{" * 1000,
    "a" * _LONG,
    "漢" * _LONG,
    "no idea " * (_LONG // 8),
    "'; DROP TABLE job; --",
    "__proto__",
    "constructor",
    "null",
)


def nests() -> Iterator[Value]:
    """Free JSON: deep, wide, and with extreme values in every place."""
    deep: Value = "bottom"
    for _ in range(_DEPTH):
        deep = [deep]
    yield deep
    deeper: Value = {}
    for _ in range(_DEPTH):
        deeper = {"a": deeper}
    yield deeper
    yield [{}] * 2000
    yield {f"k{number}": number for number in range(2000)}
    for value in (*NUMBERS[-12:], 10**30, 2**63, "\0", "\ud800", "a\0b"):
        yield [value]
        yield [[value]]
        yield {"a": value}
        yield [{"question": value, "answers": [value]}]
        yield {"question": "Why?", "answers": [value], "note": {"deep": [value]}}
        if isinstance(value, str):
            yield {value: value}
            yield [{value: 1}]


OF_TYPE: Mapping[str, tuple[Value, ...]] = {
    "integer": NUMBERS,
    "number": NUMBERS,
    "string": TEXTS,
    "array": tuple(nests()),
    "object": tuple(nests()),
    "date-time": TIMES,
    "null": (),
    "boolean": (),
}
"""The values for a member, by its type in the document."""
OTHERS: tuple[Value, ...] = (None, True, [], {}, [[]], 10**30, "\0", Literal("NaN"), TIMES[1])
"""Values for a member of any type, so that wrong types come too."""


def written(value: Value) -> bytes:
    """The value as JSON, with lone surrogates as escapes and literals as they are."""
    literals: dict[str, str] = {}

    def named(literal: object) -> str:
        if not isinstance(literal, Literal):
            raise TypeError(f"no JSON: {type(literal).__name__}")
        name = f"literal {len(literals)} of the fuzzer"
        literals[name] = literal.text
        return name

    text = json.dumps(value, default=named)
    for name, literal in literals.items():
        text = text.replace(f'"{name}"', literal)
    return text.encode()
