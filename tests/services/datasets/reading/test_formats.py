"""Readers: every format gives the same rows, and what is broken is named by line."""

import gzip
import json
import pickle
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from craft.contracts.services.datasets import DatasetFormat
from craft.core.questions import Task
from craft.core.rows.reader import question_from_row
from craft.errors import DatasetInvalid
from craft_datasets.reading.formats import read_raw, sniff
from craft_datasets.reading.json_lines import RawRow

ROW = {"question": "What is the capital of France?", "answers": ["Paris", "Paris, France"]}


def read(path: Path, *, max_line_bytes: int = 1000) -> list[RawRow]:
    return list(read_raw(path, max_line_bytes=max_line_bytes))


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def parquet(folder: Path) -> Path:
    path = folder / "file"
    pq.write_table(pa.Table.from_pylist([ROW]), path)
    return path


def test_every_format_gives_the_same_row(tmp_path: Path) -> None:
    line = json.dumps(ROW).encode()
    csv = b'question,answers\nWhat is the capital of France?,"[""Paris"", ""Paris, France""]"\n'
    for content in (line + b"\n", line, b"[" + line + b"]", csv, b"\xef\xbb\xbf" + line, b"\xef\xbb\xbf" + csv):
        (row,) = read(written(tmp_path, content))
        assert row.row is not None
        assert question_from_row(row.row, task=Task.OPEN_ENDED) == question_from_row(ROW, task=Task.OPEN_ENDED)
    assert read(parquet(tmp_path))[0].row == ROW


def test_the_bytes_decide_the_format(tmp_path: Path) -> None:
    assert sniff(written(tmp_path, b" [1]")) is DatasetFormat.JSON
    assert sniff(written(tmp_path, b'\n{"a":1}')) is DatasetFormat.JSONL
    assert sniff(written(tmp_path, b"question,answer\n")) is DatasetFormat.CSV
    assert sniff(parquet(tmp_path)) is DatasetFormat.PARQUET


def test_empty_csv_cells_are_absent_and_line_numbers_survive_quoted_breaks(tmp_path: Path) -> None:
    rows = read(written(tmp_path, b'question,answer,category\n"a\nb",x,\n\nc,y,z\n'))
    assert [(row.line, row.row) for row in rows] == [
        (3, {"question": "a\nb", "answer": "x"}),
        (5, {"question": "c", "answer": "y", "category": "z"}),
    ]


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        (b'{"question": "a", "answer": "b"}\nnot json\n', 2, "not valid JSON"),
        (b'{"question": "a", "answer": NaN}\n', 1, "not valid JSON"),
        (b'{"question": "\xff\xfe", "answer": "b"}\n', 1, "not UTF-8"),
        (b'{"a": 1}\n[1]\n', 2, "not a JSON object"),
        (b'{"a": "' + b"x" * 2000 + b'"}\n{"b": 1}\n', 1, "longer than 1,000 bytes"),
        (b"question,answer\na\n", 2, "1 cells, the header 2"),
        (b'[{"a": 1}, 3]', 2, "not an object"),
        (b'{"a": ' + b"[" * 400 + b"]" * 400 + b"}\n" + b'{"a": 1', 2, "not valid JSON"),
    ],
)
def test_a_broken_line_is_a_row_error_and_the_rest_is_read(
    tmp_path: Path, content: bytes, line: int, said: str
) -> None:
    (broken,) = [row for row in read(written(tmp_path, content)) if row.problem is not None]
    assert broken.problem is not None
    assert (broken.line, said in broken.problem.message) == (line, True)


@pytest.mark.parametrize("value", ["NaN", "[1, -Infinity]", "1e999", '"\\ud800"', '{"deep": "\\udfff"}'])
def test_a_value_that_only_python_takes_for_json_is_named_by_its_member(tmp_path: Path, value: str) -> None:
    (broken,) = read(written(tmp_path, f'{{"question": "Why?", "note\\n": {value}, "answer": "x"}}'.encode()))
    assert broken.problem is not None
    assert (broken.problem.field, broken.problem.line) == ("note\\n", 1)
    assert broken.problem.message.startswith("The line is not valid JSON: ")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x01\x02",
        b"question,question\n",
        b"name,answer\n",
        b'question,answer\n"a"b,c\n',
        b"question,answer\n" + b"x" * 2000 + b",c\n",
        b"[1,",
        b"PAR1 and nothing more",
    ],
)
def test_a_file_that_is_not_of_its_format_is_refused_whole(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DatasetInvalid):
        read(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "said", "hint"),
    [
        (gzip.compress(b'{"question": "Why?"}', mtime=0), "gzip", "Unpack"),
        (b"PK\x03\x04" + b"\0" * 26 + b"data.jsonl", "zip archive", "Unpack"),
        (b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml", "Excel", "as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel", "as CSV"),
        (pickle.dumps([{"question": "Why?"}]), "pickle", "run code"),
        ("question\n".encode("utf-16"), "UTF-16", "UTF-8"),
        (b"\n <!DOCTYPE html><title>Sign in</title>", "web page", "address"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS", "points to"),
        (b"", "empty", "JSONL"),
        (b"\xef\xbb\xbf \r\n\n", "empty", "JSONL"),
        (b"\0" * 100, "no text", "JSONL"),
        ("question,answer\n".encode("utf-16-le"), "UTF-16", "as UTF-8"),
        ("question,answer\n".encode("utf-16-be"), "UTF-16", "as UTF-8"),
        (random.Random(1).randbytes(300), "no text", "JSONL"),
        (random.Random(2).randbytes(100_000), "no text", "JSONL"),
        ("question,answer\nOù ?,là\n".encode("latin-1"), "not UTF-8: line 2 ", "as UTF-8"),
        ("question,réponse\nWhere?,x\n".encode("latin-1"), "not UTF-8: line 1 ", "as UTF-8"),
        ('[{"question": "Où ?"}]'.encode("latin-1"), "not UTF-8", "as UTF-8"),
        (b"question;answer\nWhy?;x\n", "semicolons", "commas"),
        (b'\xef\xbb\xbf"question";"answer"\r\n"Why, then?";"x"\r\n', "semicolons", "commas"),
        (b"question;answer;of a, or b\nWhy?;x;y\n", "semicolons", "commas"),
        (b"question\tanswer\nWhy?\tx\n", "tabs", "commas"),
        (b"prompt|completion\nWhy?|x\n", "bars", "commas"),
    ],
)
def test_what_is_no_dataset_is_named_with_what_to_do(tmp_path: Path, content: bytes, said: str, hint: str) -> None:
    with pytest.raises(DatasetInvalid, match=said) as caught:
        read(written(tmp_path, content))
    assert hint in str(caught.value.hint)
    assert "\\x" not in str(caught.value)


def test_a_comma_separates_whatever_else_the_names_hold(tmp_path: Path) -> None:
    (row,) = read(written(tmp_path, b"question,answer;or|so\nWhy; and\twhy?,x\n"))
    assert row.row == {"question": "Why; and\twhy?", "answer;or|so": "x"}


def test_a_word_where_a_tar_archive_has_its_magic_is_text(tmp_path: Path) -> None:
    (row,) = read(written(tmp_path, b"question,answer\n" + b"x" * 239 + b" custard?,yes\n"))
    assert row.row is not None


@pytest.mark.parametrize("mark", ["\0", "\x01", "\x7f"])
def test_text_may_hold_a_control_character(tmp_path: Path, mark: str) -> None:
    (row,) = read(written(tmp_path, f"question,answer\nWhy {mark}?,x\n".encode()))
    assert row.row is not None


def test_null_has_no_excerpt(tmp_path: Path) -> None:
    (row,) = read(written(tmp_path, b"[null]"))
    assert row.problem is not None
    assert row.problem.excerpt is None


def test_times_with_nanoseconds_are_read_to_the_microsecond(tmp_path: Path) -> None:
    path = tmp_path / "file"
    times = {
        "stamp": pa.array([883659600000000001], pa.timestamp("ns")),
        "zoned": pa.array([883659600000000001], pa.timestamp("ns", "UTC")),
        "short": pa.array([5_000_000_001], pa.duration("ns")),
        "day": pa.array([0], pa.timestamp("s")),
    }
    pq.write_table(pa.table({"question": ["q"], **times}), path, coerce_timestamps=None)
    ((_, row, *_),) = read(path)
    assert row is not None
    assert str(row["stamp"]) == "1998-01-01 13:00:00"
    assert str(row["zoned"]) == "1998-01-01 13:00:00+00:00"
    assert str(row["short"]) == "0:00:05"
    assert str(row["day"]) == "1970-01-01 00:00:00"


def test_a_map_of_parquet_is_an_object_and_one_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    path, kind = tmp_path / "file", pa.map_(pa.string(), pa.string())
    pq.write_table(pa.table({"choices": pa.array([[("A", "x"), ("B", "y")]], kind)}), path)
    assert [raw.row for raw in read(path)] == [{"choices": {"A": "x", "B": "y"}}]
    pq.write_table(pa.table({"choices": pa.array([[("A", "x"), ("A", "y")]], kind)}), path)
    with pytest.raises(DatasetInvalid, match="not readable Parquet"):
        read(path)
