"""A JSON list in pieces: its values are those of the whole, wherever the pieces end."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.errors import DatasetInvalid
from craft_datasets.reading.json_list import values

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=10
)


def read(content: bytes, *, read_bytes: int = 1) -> list[Any]:
    return [json.loads(text) for text in values(io.BytesIO(content), read_bytes=read_bytes)]


@given(st.lists(JSON, max_size=6), st.integers(1, 20), st.sampled_from([None, 0, 3]), st.booleans())
def test_the_values_are_those_of_the_whole(whole: list[Any], read_bytes: int, indent: int | None, plain: bool) -> None:
    content = json.dumps(whole, indent=indent, ensure_ascii=plain).encode("utf-8", errors="replace")
    assert read(content, read_bytes=read_bytes) == json.loads(content)


@pytest.mark.parametrize("read_bytes", [1, 2, 5, 1000])
def test_space_a_mark_at_the_beginning_and_letters_of_several_bytes_are_no_matter(read_bytes: int) -> None:
    content = b'\xef\xbb\xbf \r\n[ 12 ,\t[ 3.5e1 ]\n, {"K\xc3\xb6ln": "\xf0\x9f\x8c\x8a"}\n]\n \n'
    assert read(content, read_bytes=read_bytes) == [12, [35.0], {"Köln": "🌊"}]


@pytest.mark.parametrize("content", [b"[]", b" [ ] "])
def test_an_empty_list_has_no_values(content: bytes) -> None:
    assert read(content) == []


@pytest.mark.parametrize("read_bytes", [1, 1000])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is no list"),
        (b'{"a": 1}', "it is no list"),
        (b"[", "too early|Expecting value"),
        (b"[1", "too early"),
        (b"[1,", "Expecting value"),
        (b"[1,]", "Expecting value"),
        (b"[1 2]", "a comma"),
        (b"[1]]", "follows after the list"),
        (b'[{"a": 1', "delimiter"),
        (b'["a', "Unterminated"),
        (b'["\xff"]', "not UTF-8"),
        (b'["\xc3', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_list_of_values_is_refused(content: bytes, said: str, read_bytes: int) -> None:
    with pytest.raises(DatasetInvalid, match=said):
        read(content, read_bytes=read_bytes)


def test_what_is_wrong_is_named_by_its_line() -> None:
    with pytest.raises(DatasetInvalid, match="begins on line 4"):
        read(b'[{"a":\n1},\n2,\n{"b" 3}]')


def test_a_value_of_a_few_mebibytes_is_read_and_one_without_end_is_not() -> None:
    assert read(b'["' + b"x" * 3_000_000 + b'", 1]')[1] == 1
    with pytest.raises(DatasetInvalid, match="Unterminated") as caught:
        read(b'["' + b"x" * 20_000_000 + b'", 1]', read_bytes=1 << 20)
    assert "8 MiB" in str(caught.value.hint)
