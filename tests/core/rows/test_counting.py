"""What statistics are made of: spreads from counts, first lines of texts, hashes of questions, kinds of row errors."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.core.rows.distribution import Distribution, distribution
from craft.core.rows.errors import MAX_DETAILS, RowErrors
from craft.core.rows.question_hashes import FirstSeen, question_hash, text_hash
from craft.errors import ErrorDetail


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([7], Distribution(7, 7, 7, 7)),
        ([1, 2], Distribution(1, 1, 2, 2)),
        ([3, 1, 2], Distribution(1, 2, 3, 3)),
        (list(range(1, 101)), Distribution(1, 50, 95, 100)),
        ([5] * 99 + [1000], Distribution(5, 5, 5, 1000)),
    ],
)
def test_a_spread_is_that_of_the_sorted_values(values: list[int], found: Distribution) -> None:
    assert distribution(Counter(values)) == found


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200))
def test_a_spread_is_by_nearest_rank(values: list[int]) -> None:
    ordered = sorted(values)
    rank = -(-len(values) * 95 // 100)
    assert distribution(Counter(values)) == (
        ordered[0],
        ordered[(len(values) - 1) // 2],
        ordered[rank - 1],
        ordered[-1],
    )


def test_first_lines_are_those_a_dictionary_would_say() -> None:
    chance, lines, known = random.Random(3), FirstSeen(), dict[int, int]()
    for line in range(1, 20_000):
        # Hashes that meet in the table's last bits, zero among them.
        hashed = chance.randrange(9000) << chance.choice((0, 20))
        assert lines.seen(hashed, line) == known.get(hashed)
        known.setdefault(hashed, line)


def test_questions_that_differ_in_looks_only_have_the_same_hash() -> None:
    same = ("What is the café's name?", "what is  a CAFES name", "What is the Cafe’s name ?!")
    assert len({question_hash(question) for question in same}) == 1
    assert question_hash("Where is the café?") != question_hash("What is the café?")
    assert question_hash("???") != question_hash("!")
    assert question_hash("水の化学式?") == question_hash("水の化学式")


def test_a_text_hash_is_a_64_bit_number() -> None:
    assert 0 <= text_hash("Why?") < 2**64
    assert text_hash("Why?") != text_hash("why?")


def test_row_errors_are_counted_by_kind_and_the_first_are_kept() -> None:
    errors = RowErrors()
    for line in range(1, 251):
        errors.add(ErrorDetail(f"`answers[{line}]` is empty.", line=line))
    errors.add(ErrorDetail("The line has 3 cells, the header 12,000.", line=251))
    errors.add(ErrorDetail("The line is not valid JSON: unexpected character.", line=252))
    errors.add(ErrorDetail("`q1` is missing.", line=253))
    assert (errors.total, len(errors.details)) == (253, MAX_DETAILS)
    assert errors.counts == {
        "`answers` is empty.": 250,
        "The line has … cells, the header ….": 1,
        "The line is not valid JSON.": 1,
        "`q1` is missing.": 1,
    }


def test_kinds_without_an_end_are_counted_together() -> None:
    errors = RowErrors()
    for position in range(80):
        errors.add(ErrorDetail(f"`column{position}` is missing."))
    assert (len(errors.counts), errors.counts["other"]) == (51, 30)
