"""Lists and objects that a file holds as text are read alike, however they were written, or refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.core.rows.written import WrittenInvalid, read_written


def numpy_of(texts: list[str], separator: str) -> str:
    return "[" + separator.join(map(repr, texts)) + "]"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_json_python_and_numpy_write_the_same_list(texts: list[str]) -> None:
    ways = [json.dumps(texts), json.dumps(texts, ensure_ascii=False), repr(texts), f"  {texts!r}\n"]
    ways += [numpy_of(texts, " "), numpy_of(texts, "\n "), f"array({texts!r}, dtype=object)", f"array({texts!r})"]
    assert [read_written(way) for way in ways] == [texts] * len(ways)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("['a' 'b']", ["a", "b"]),
        ("['a',]", ["a"]),
        ("[]", []),
        ("('a', 'b')", ["a", "b"]),
        ("[u'\\xe9', 'a\\tb', '\\101']", ["é", "a\tb", "A"]),
        ("['\\ud83d\\ude00', '\\U0001F600', 'c:\\\\d', '\\q']", ["😀", "😀", "c:\\d", "\\q"]),
        ("['it\\'s' \"b's\"]", ["it's", "b's"]),
        ("[0, 1]", [0, 1]),
        ("[1 -2 3.5 1e3]", [1, -2, 3.5, 1000.0]),
        ("[None, True, false, nan]", [None, True, False, None]),
        ("[['a' 'b']\n ['c' 'd']]", [["a", "b"], ["c", "d"]]),
        ("[('a', 'b')]", [["a", "b"]]),
        ("('a',)", ["a"]),
        (json.dumps(json.dumps(["a", "b"])), ["a", "b"]),
        (json.dumps("{'value': 'a'}"), {"value": "a"}),
        ("[np.str_('a'), np.str_('b')]", ["a", "b"]),
        ("[np.int64(3), np.float64(2.5), np.bool_(True)]", [3, 2.5, True]),
        ("{'value': np.str_('a'), 'aliases': array([np.str_('a')])}", {"value": "a", "aliases": ["a"]}),
        (
            "{'text': array(['x', 'y'], dtype=object), 'answer_start': array([1, 2], dtype=int32)}",
            {"text": ["x", "y"], "answer_start": [1, 2]},
        ),
        ("{'value': 'a', 'aliases': ['a' 'b'],}", {"value": "a", "aliases": ["a", "b"]}),
        ('{"value": "a"}', {"value": "a"}),
    ],
)
def test_a_written_value_is_read(text: str, value: object) -> None:
    assert read_written(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Paris",
        "[sic]",
        "[0, 1)",
        "(0, 1)",
        "(A|B)",
        "('a')",
        '("Heroes", 1977)',
        "('tis",
        "{x | x > 0}",
        "{1, 2}",
        "[18F]FDG",
        "[text](address)",
        "array",
        "np.mean(x)",
        "Index of Forbidden Books (1559)",
        "print('a')",
        "b'ars",
        '"[sic]"',
        '"[a" and "b]"',
        '"{x | x > 0}"',
        "<map>",
        "dtype: the kind of an array",
        "[007]",
        "[1.2.3]",
        f"[{'9' * 5000}]",
        "[" * 1000 + "]" * 1000,
    ],
)
def test_any_other_text_stays_a_text(text: str) -> None:
    assert read_written(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "['a' 'b', 'c']",
        "['a', 'b' 'c']",
        "['a''b']",
        "['a'",
        "['a', 'b'",
        "['a'] and more",
        "['a' 'b' ... 'c']",
        "[a, b]",
        "[,]",
        "['a',,]",
        "{'a'}",
        "{'a': {1: 2}}",
        "{'a': 'b' 'c'}",
        "{'a': }",
        "{'a': 'b'",
        "array(['a']",
        "array('a')",
        "array(['a'], dtype=object",
        "['\\U99999999']",
        "['a', b]",
        "[np.str_(['a'])]",
        "[np.str_('a']",
        "np.str_('a')",
        "np.array(['a', 'b'])",
        "b'Paris'",
        "frozenset({'a'})",
        "deque(['a', 'b'])",
        "Index(['a', 'b'], dtype='object')",
        "OrderedDict([('value', 'a')])",
        "dict_values(['a'])",
        "datetime.date(1998, 1, 1)",
        "Timestamp('1998-01-01 00:00:00')",
        "Decimal('1.5')",
        json.dumps("['a', 'b'"),
        "0    Adele\n1    Adkins\nName: answers, dtype: object",
        "<list_iterator object at 0x7f3a2c>",
        "<__main__.Answer object at 0x7f3a2c>",
    ],
)
def test_what_can_be_read_in_two_ways_or_breaks_off_is_refused(text: str) -> None:
    with pytest.raises(WrittenInvalid, match="list"):
        read_written(text)
