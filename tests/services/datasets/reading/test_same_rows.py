"""The same data give the same questions, ids and digest in CSV, JSONL, JSON and Parquet."""

import csv
import datetime
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from craft.contracts.services.datasets import Reading
from craft.core.findings import FindingCode
from craft.core.questions import Task
from craft_datasets.reading.reading_child import ReadingOrder, read

Row = dict[str, object]
ALL = list(FindingCode)
"""Generated data may be strange; they are to be read alike all the same."""


def stored(path: Path, content: bytes, task: Task) -> list[str] | str:
    """The stored lines, or the message of the refusal."""
    source, questions = path / "upload", path / "questions"
    source.write_bytes(content)
    order = ReadingOrder(
        source=source,
        reading=Reading(task=task, accept=ALL),
        questions=questions,
        question_hashes=path / "hashes",
        max_rows=1000,
        max_line_bytes=100_000,
        memory_bytes=2**40,
        cpu_seconds=100,
        parent=os.getpid(),
    )
    error = read(order).error
    return questions.read_text().splitlines() if error is None else error.message


def jsonl(rows: Sequence[Row]) -> bytes:
    return b"".join(json.dumps(row, default=str).encode() + b"\n" for row in rows)


def as_csv(rows: Sequence[Row]) -> bytes:
    """The rows as Python and pandas write them: lists and objects by `repr`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: Sequence[Row]) -> bytes:
    packed = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), packed)
    return packed.getvalue()


def every_way(folder: Path, rows: Sequence[Row], task: Task) -> Mapping[str, list[str] | str]:
    listed = b"[" + b",".join(jsonl([row]).strip() for row in rows) + b"]"
    ways = {"JSONL": jsonl(rows), "JSON": listed, "CSV": as_csv(rows), "Parquet": as_parquet(rows)}
    return {way: stored(folder, content, task) for way, content in ways.items()}


WORDS = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="\0"), max_size=12)
TEXTS = st.builds("{}x{}".format, WORDS, WORDS).filter(lambda text: text.strip()[0] not in "[({a")
VALUES = {
    "texts": TEXTS,
    "whole numbers": st.integers(-(2**63), 2**63 - 1),
    "numbers": st.floats(-1e15, 1e15, allow_nan=False),
    "truth values": st.booleans(),
    "days": st.dates(datetime.date(1800, 1, 1), datetime.date(2200, 1, 1)),
    "lists": st.lists(TEXTS, min_size=1, max_size=4),
    "lists of numbers": st.lists(st.integers(-1000, 1000), min_size=1, max_size=4),
    "objects": st.fixed_dictionaries({"value": TEXTS, "aliases": st.lists(TEXTS, min_size=1, max_size=3)}),
    "objects of SQuAD": st.fixed_dictionaries(
        {"text": st.lists(TEXTS, min_size=1, max_size=3), "answer_start": st.lists(st.integers(0, 99), min_size=1)}
    ),
}


@pytest.mark.parametrize("kind", VALUES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_open_ended_rows_are_the_same_in_every_format(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    answers = data.draw(st.lists(VALUES[kind], min_size=1, max_size=5))
    # In CSV `answers` with bars is a list, while `answer` is always one text.
    field = "answer" if kind == "texts" else data.draw(st.sampled_from(["answer", "answers"]))
    number = data.draw(st.booleans())
    rows = [
        {"id": at if number else f"i{at}", "question": data.draw(TEXTS), field: answer, "category": data.draw(TEXTS)}
        for at, answer in enumerate(answers)
    ]
    found = every_way(tmp_path, rows, Task.OPEN_ENDED)
    assert isinstance(found["JSONL"], list), found
    assert [way for way, lines in found.items() if lines != found["JSONL"]] == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_multiple_choice_rows_are_the_same_in_every_format(tmp_path: Path, data: st.DataObject) -> None:
    options = st.lists(TEXTS.map(str.strip), min_size=3, max_size=6, unique=True)
    rows: list[Row] = []
    for _ in range(data.draw(st.integers(1, 4))):
        choices = data.draw(options)
        rows.append({"question": data.draw(TEXTS), "choices": choices, "answer": data.draw(st.integers(0, 2))})
    found = every_way(tmp_path, rows, Task.MULTIPLE_CHOICE)
    assert isinstance(found["JSONL"], list), found
    assert [way for way, lines in found.items() if lines != found["JSONL"]] == []


def test_numpy_lists_a_column_for_each_option_and_narrow_floats_are_the_same_too(tmp_path: Path) -> None:
    plain = stored(
        tmp_path, jsonl([{"question": "Which?", "choices": ["x", "y"], "answer": "B"}]), Task.MULTIPLE_CHOICE
    )
    assert stored(tmp_path, b"question,A,B,answer\nWhich?,x,y,B\n", Task.MULTIPLE_CHOICE) == plain
    assert stored(tmp_path, b"question,choices,answer\nWhich?,['x' 'y'],B\n", Task.MULTIPLE_CHOICE) == plain
    assert stored(tmp_path, b"question,choices,answer\nWhich?,x|y,B\n", Task.MULTIPLE_CHOICE) == plain
    narrow = pa.table({"question": ["How much?"], "answer": pa.array([0.1], pa.float32())})
    packed = io.BytesIO()
    pq.write_table(narrow, packed)
    assert stored(tmp_path, packed.getvalue(), Task.OPEN_ENDED) == stored(
        tmp_path, b"question,answer\nHow much?,0.1\n", Task.OPEN_ENDED
    )
