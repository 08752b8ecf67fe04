"""Files that a datasets service may be sent by mistake or in bad faith, and what an honest reader finds in each."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import random
import sqlite3
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Questions = tuple[str, ...]
ROW = b'{"question": "Why?", "answers": ["because"]}\n'
_MIB = 2**20
_GOOD: dict[str, list[object]] = {"question": ["Why?"], "answers": [["because"]]}


@dataclass(frozen=True, slots=True)
class Hostile:
    """A file. `questions` are those that it honestly holds, None where it has to be refused."""

    name: str
    content: bytes | Callable[[], bytes]
    questions: Questions | None = None

    def made(self) -> bytes:
        """The file's bytes; large ones are made when they are needed."""
        return self.content if isinstance(self.content, bytes) else self.content()


def hostile_files(canary: Path) -> list[Hostile]:
    """At least 120 files of all kinds; unpickling one of them would make `canary`."""
    return [
        *_texts(),
        *_encodings(),
        *_json(),
        *_jsonl(),
        *_csv(),
        *_other_formats(canary),
        *_parquet(),
        *_broken_parquet(),
    ]


def _row(question: str, **more: object) -> bytes:
    return json.dumps({"question": question, "answers": ["because"], **more}).encode() + b"\n"


def _texts() -> Iterator[Hostile]:
    """Text that is dangerous somewhere else is text here, and comes back as it was."""
    texts = {
        "bidi": "Why \u202eecruos\u202c \u2066x\u2069?",
        "zero width": "W\u200bh\u200dy\ufeff x?",
        "zalgo": "W" + "\u0301" * 5000 + "hy?",
        "formula": '=HYPERLINK("http://example.com","Why?")',
        "at formula": "@SUM(1+1)*cmd|' /C calc'!A0",
        "ansi": "\x1b[31mWhy?\x1b[0m\x07",
        "control": "Why\x01\x02\x7f\x9f?",
        "markup": "<script>alert(1)</script>",
        "template": "{{ 7 * 7 }}{% raw %}${7*7}#{7*7}",
        "sql": "'; DROP TABLE dataset; --",
        "path": "../../../../etc/passwd",
        "emoji": "🧑‍🚀🏳️‍🌈 why?",
        "separators": "Why\u2028\u2029\x85\x0b\x0cnot?",
        "long": "Why? " + "x" * 90_000,
    }
    for name, text in texts.items():
        yield Hostile(f"text: {name}", _row(text), (text,))


def _encodings() -> Iterator[Hostile]:
    yield Hostile("encoding: BOM", lambda: b"\xef\xbb\xbf" + ROW, ("Why?",))
    yield Hostile("encoding: two BOMs", lambda: b"\xef\xbb\xbf" * 2 + ROW)
    for code in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp500"):
        yield Hostile(f"encoding: {code}", ROW.decode().encode(code))
    for code, text in {
        "latin-1": "Où?",
        "cp1252": "“Why”?",
        "shift_jis": "なぜ?",
        "gbk": "中文问题?",
    }.items():
        row = json.dumps({"question": text, "answers": ["x"]}, ensure_ascii=False)
        yield Hostile(f"encoding: {code}", row.encode(code))
    yield Hostile("encoding: gbk as CSV", lambda: "question,answers\n中文问题?,x\n".encode("gbk"))
    for name, raw in {
        "overlong": b"\xc0\xaf",
        "surrogate": b"\xed\xa0\x80",
        "cut": b"\xe6\xb0",
        "five bytes": b"\xf8\x88\x80\x80\x80",
    }.items():
        yield Hostile(f"encoding: {name}", b'{"question": "' + raw + b'", "answers": ["x"]}\n')


def _json() -> Iterator[Hostile]:
    for depth in (1_000, 4_000_000):
        yield Hostile(f"JSON: {depth} lists", b"[" * depth)
        yield Hostile(f"JSON: {depth} closed lists", b"[" * depth + b"]" * depth)
    yield Hostile("JSON: 100,000 objects", lambda: b'[{"a":' * 100_000)
    yield Hostile("JSON: two million empty objects", lambda: b"[" + b",".join([b"{}"] * 2_000_000) + b"]")
    yield Hostile("JSON: two million nulls", lambda: b"[" + b",".join([b"null"] * 2_000_000) + b"]")
    yield Hostile("JSON: a list in lists", lambda: b"[[" + ROW + b"]]")
    yield Hostile("JSON: cut off", lambda: b"[" + ROW.strip() + b", {")
    yield Hostile("JSON: list", lambda: b"[" + ROW + b"]", ("Why?",))
    yield Hostile(
        "JSON: 200,000 members", lambda: b"[" + _row("Why?", **{f"k{n}": n for n in range(200_000)}) + b"]", ("Why?",)
    )


def _jsonl() -> Iterator[Hostile]:
    yield Hostile("JSONL: CRLF, blank lines, no end", lambda: b"\r\n\n" + ROW.strip() + b"\r\n \r\n", ("Why?",))
    yield Hostile("JSONL: a key twice", lambda: b'{"question": "How?", "question": "Why?", "answers": ["x"]}')
    yield Hostile("JSONL: deep extra member", lambda: b'{"x": ' + b"[" * 500 + b"]" * 500 + b", " + ROW[1:], ("Why?",))
    yield Hostile("JSONL: too deep extra member", lambda: b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b", " + ROW[1:])
    yield Hostile("JSONL: deep answers", lambda: b'{"question": "Why?", "answers": ' + b"[" * 900 + b"]" * 900 + b"}")
    for name in (
        "NaN",
        "Infinity",
        "1" * 5000,
        "'x'",
        '"\\ud800"',
        '"\\x41"',
    ):
        yield Hostile(
            f"JSONL: {name[:20]}",
            b'{"x": ' + name.encode() + b', "question": "Why?", "answers": ["x"]}',
        )
    for name, answers in {
        "NUL": ["a\0b"],
        "nothing": [],
        "object": {"a": 1},
        "nothing finite": 10**30,
        "mixed": ["x", None],
        "blank": [" "],
    }.items():
        yield Hostile(f"JSONL: {name} as answers", _row("Why?", answers=answers))
    yield Hostile("JSONL: a line of 3 MB", lambda: _row("x" * 3_000_000))
    yield Hostile("JSONL: one line of 40 MB without an end", lambda: b'{"question": "' + b"x" * (40 * _MIB))
    yield Hostile("JSONL: four million empty lines", lambda: b"{}\n" + b"\n" * 4_000_000)
    yield Hostile("JSONL: a million lines of one byte", lambda: b"{\n" * 1_000_000)
    yield Hostile("JSONL: scalars", lambda: b'{"question": "Why?", "answers": ["x"]}\n3\nnull\ntrue\n"text"\n')
    yield Hostile("JSONL: an id of 10,000 characters", lambda: _row("Why?", id="i" * 10_000))
    yield Hostile("JSONL: ids twice", lambda: _row("Why?", id="a") + _row("How?", id="a"))
    yield Hostile("JSONL: 100,000 equal rows", lambda: ROW * 100_000)


def _csv() -> Iterator[Hostile]:
    head = b"question,answers\n"
    yield Hostile("CSV: formulas", lambda: head + b"=1+1,x\n@SUM(1),x\n-2,x\n+3,x\n", ("=1+1", "@SUM(1)", "-2", "+3"))
    yield Hostile(
        "CSV: BOM, CRLF, breaks in cells",
        lambda: b'\xef\xbb\xbfquestion,answers\r\n"Why,\r\nnot""?",a|b\r\n',
        ('Why,\r\nnot"?',),
    )
    yield Hostile("CSV: a cell of 10 MB", lambda: head + b"x" * (10 * _MIB) + b",x\n")
    yield Hostile("CSV: a quoted cell of 10 MB", lambda: head + b'"' + b"x\n" * (5 * _MIB) + b'",x\n')
    yield Hostile("CSV: a quote that never closes", lambda: head + b'"Why?,x\n' * 200_000)
    yield Hostile(
        "CSV: 100,000 columns", lambda: b",".join(b"c%d" % n for n in range(100_000)) + b",question,answers\n"
    )
    yield Hostile("CSV: ten million commas", lambda: head + b"," * (10 * _MIB))
    yield Hostile("CSV: a column twice", lambda: b"question,answers,question\na,b,c\n")
    yield Hostile("CSV: ragged", lambda: head + b"Why?\n" + b"Why?,a,b,c\n")
    yield Hostile("CSV: NUL", lambda: head + b"Wh\0y?,x\n")
    yield Hostile("CSV: semicolons", lambda: b"question;answers\nWhy?;x\n")
    yield Hostile("CSV: only a header", lambda: head)
    yield Hostile("CSV: ends of old Macs", lambda: b"question,answers\rWhy?,x\r", ("Why?",))
    for name, cell in {
        "brackets": b"[" * 200_000,
        "minuses": b"[" + b"-" * 90_000 + b"1]",
        "nested lists": b"[" * 5000 + b"1" + b"]" * 5000,
        "digits": b"[" + b"9" * 90_000 + b"]",
        "code": b"[__import__('os').system('touch canary')]",
        "power": b"[9**9**9]",
        "dots": b"[a" + b".a" * 40_000 + b"]",
    }.items():
        quoted = b'Why?,"' + cell + b'"\n'
        expected = None if name == "brackets" else ("Why?",)
        yield Hostile(f"CSV: {name} as answers", head + quoted, expected)


def _other_formats(canary: Path) -> Iterator[Hostile]:
    yield Hostile("format: empty", lambda: b"")
    yield Hostile("format: 4 MB of zero bytes", lambda: b"\0" * (4 * _MIB))
    yield Hostile("format: 4 MB of 0xFF", lambda: b"\xff" * (4 * _MIB))
    yield Hostile("format: 4 MB of blanks", lambda: b" " * (4 * _MIB))
    yield Hostile("format: random bytes", lambda: random.Random(1).randbytes(_MIB))
    yield Hostile("format: gzip", lambda: gzip.compress(ROW))
    yield Hostile("format: gzip bomb", lambda: gzip.compress(ROW + b" " * (50 * _MIB)))
    yield Hostile("format: cut gzip", lambda: gzip.compress(ROW * 1000)[:60])
    yield Hostile("format: bzip2", lambda: bz2.compress(ROW))
    yield Hostile("format: xz", lambda: lzma.compress(ROW))
    yield Hostile("format: zip", lambda: _zip({"data.jsonl": ROW}))
    yield Hostile("format: zip bomb", lambda: _zip({f"{n}.jsonl": b" " * (20 * _MIB) for n in range(3)}))
    yield Hostile("format: zip with paths", lambda: _zip({"../../outside.jsonl": ROW, "/etc/outside": ROW}))
    yield Hostile(
        "format: xlsx",
        lambda: _zip({"[Content_Types].xml": b"<x/>", "xl/workbook.xml": b"<!DOCTYPE x [<!ENTITY a 'b'>]>"}),
    )
    yield Hostile("format: tar", lambda: _tar(ROW))
    yield Hostile("format: pickle", lambda: pickle.dumps(_Trap(canary)))
    yield Hostile("format: SQLite", _sqlite)
    yield Hostile("format: XML with entities", lambda: b'<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><l>&b;</l>')
    for name, magic in {
        "PDF": b"%PDF-1.7\n",
        "PNG": b"\x89PNG\r\n\x1a\n",
        "ORC": b"ORC",
        "Arrow": b"ARROW1\0\0",
        "zstd": b"\x28\xb5\x2f\xfd",
    }.items():
        yield Hostile(f"format: {name}", magic + random.Random(2).randbytes(5000))


def _parquet() -> Iterator[Hostile]:
    yield Hostile("Parquet: good", lambda: _table(_GOOD), ("Why?",))
    yield Hostile(
        "Parquet: large text", lambda: _table(_GOOD, question=pa.array(["Why?"], pa.large_string())), ("Why?",)
    )
    for million, times in ((1, 6000), (4, 1500), (40, 100)):
        yield Hostile(
            f"Parquet: {million} MB of text {times} times",
            _repeated(million * 10**6, times),
        )
    yield Hostile("Parquet: 30 million rows of one byte", _many_rows)
    yield Hostile(
        "Parquet: 3,000 columns", lambda: _table(_GOOD, **{f"c{n}": pa.array([n]) for n in range(3000)}), ("Why?",)
    )
    yield Hostile(
        "Parquet: a column twice",
        lambda: _written(
            pa.table([pa.array(["How?"]), pa.array(["Why?"]), pa.array(["x"])], ["question", "question", "answers"])
        ),
    )
    yield Hostile("Parquet: deep lists", lambda: _table(_GOOD, answers=_nested(30)))
    columns = {
        "numbers": pa.array([1.5]),
        "bytes": pa.array([b"\xff\xfe"]),
        "nothing": pa.array([None], pa.string()),
        "a map": pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string())),
        "year 9999999": pa.array([2**62], pa.timestamp("us")),
        "an unknown zone": pa.array([1], pa.timestamp("us", "Nowhere/Land")),
        "a far day": pa.array([2**31 - 1], pa.date32()),
        "a long time": pa.array([2**62], pa.duration("s")),
        "decimals": pa.array([10**70], pa.decimal256(76, 0)),
    }
    for name, column in columns.items():
        yield Hostile(f"Parquet: {name} as question", _table(_GOOD, question=column))
    yield Hostile("Parquet: text that is no UTF-8", lambda: _table(_GOOD, question=_not_utf8()))
    yield Hostile(
        "Parquet: no rows",
        lambda: _written(pa.table({"question": pa.array([], pa.string()), "answers": pa.array([], pa.string())})),
    )
    yield Hostile("Parquet: no columns", lambda: _written(pa.table({})))


def _broken_parquet() -> Iterator[Hostile]:
    good = _table(_GOOD)
    yield Hostile("Parquet: only the magic", lambda: b"PAR1")
    yield Hostile("Parquet: magic twice", lambda: b"PAR1PAR1")
    yield Hostile("Parquet: half", lambda: good[: len(good) // 2])
    yield Hostile("Parquet: without its end", lambda: good[:-4])
    yield Hostile("Parquet: a footer of 4 GB", lambda: good[:-8] + b"\xff\xff\xff\xff" + b"PAR1")
    yield Hostile("Parquet: a negative footer", lambda: good[:-8] + b"\x00\x00\x00\x80" + b"PAR1")
    yield Hostile("Parquet: encrypted", lambda: b"PARE" + good[4:-4] + b"PARE")
    yield Hostile("Parquet: noise between magics", lambda: b"PAR1" + random.Random(3).randbytes(5000) + b"PAR1")
    for seed in range(4):
        yield Hostile(f"Parquet: footer with flipped bits {seed}", _flipped(good, seed))


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.canary,))


def _zip(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def _tar(content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("../data.jsonl")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE question (answers)")
        connection.close()
        return path.read_bytes()


def _written(table: pa.Table) -> bytes:
    packed = io.BytesIO()
    pq.write_table(table, packed)
    return packed.getvalue()


def _table(columns: dict[str, list[object]], **replaced: pa.Array) -> bytes:
    return _written(pa.table({**columns, **replaced}))


def _repeated(characters: int, times: int) -> bytes:
    """One long text that the dictionary encoding repeats."""
    text = pa.array(["x" * characters])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * times), text)
    return _written(pa.table({"question": column, "answers": column}))


def _many_rows() -> bytes:
    packed = io.BytesIO()
    group = pa.table({"question": pa.array([b"x"] * 1_000_000).dictionary_encode()})
    with pq.ParquetWriter(packed, group.schema) as writer:
        for _ in range(30):
            writer.write_table(group)
    return packed.getvalue()


def _nested(depth: int) -> pa.Array:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return pa.array([value])


def _not_utf8() -> pa.Array:
    good = pa.array(["abcd"])
    return pa.Array.from_buffers(pa.string(), 1, [None, good.buffers()[1], pa.py_buffer(b"\xff\xfe\xfd\xfc")])


def _flipped(content: bytes, seed: int) -> bytes:
    """Ten bits of the footer, which describes the columns, are wrong."""
    rng = random.Random(seed)
    changed = bytearray(content)
    footer = int.from_bytes(content[-8:-4], "little")
    for _ in range(10):
        changed[len(content) - 8 - rng.randrange(1, footer)] ^= 1 << rng.randrange(8)
    return bytes(changed)
