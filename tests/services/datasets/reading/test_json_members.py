"""A member that an object has twice is found, whatever its texts hold."""

import json
from pathlib import Path

import pytest

from craft_datasets.reading.formats import read_raw
from craft_datasets.reading.json_members import doubled_member


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('{"question": "q", "answer": "x", "answer": "y"}', "answer"),
        ('{"a" : 1,"a":2}', "a"),
        ('{"meta": {"b": 1, "b": 1}, "a": 2}', "b"),
        ('{"list": [{"b": 1}, [{"c": 1, "c": 2}]]}', "c"),
        ('{"a": 1, "\\u0061": 2}', "a"),
        ('{"a": 1, "b": [1, {"a": 2}]}', None),
        ('{"a": "he said \\"x\\": y", "b": 1}', None),
        ("{}", None),
    ],
)
def test_a_doubled_member_is_found(text: str, name: str | None) -> None:
    assert doubled_member(text.encode(), json.loads(text)) == name


def test_what_the_other_parser_does_not_read_has_none() -> None:
    assert doubled_member(b'{"a": 1, "b', {}) is None


@pytest.mark.parametrize("form", ["{}\n", "[{}]"])
def test_a_row_with_two_answers_is_a_row_error(tmp_path: Path, form: str) -> None:
    path = tmp_path / "file"
    path.write_text(form.replace("{}", '{"question": "q", "answer": "x", "answer": "y"}'))
    ((line, row, problem, *_),) = read_raw(path, max_line_bytes=1000)
    assert (line, row) == (1, None)
    assert problem is not None
    assert (problem.message, problem.field) == ("The object has `answer` twice.", "answer")
