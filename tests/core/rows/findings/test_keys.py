"""Keys that count from another number are noticed: none is the first, or one is beyond the last."""

import pytest

from craft.core.rows.findings.keys import KeyNumbers
from craft.core.rows.options import NumberKey
from craft.errors import FindingDetail, Severity


def finding(keys: list[int], *, options: int = 4, base: int = 0, is_said: bool = False) -> FindingDetail | None:
    numbers = KeyNumbers(base, is_said=is_said)
    for line, key in enumerate(keys, start=1):
        numbers.add(NumberKey(key, options), line)
    return numbers.finding("label")


def test_many_rows_without_the_key_0_are_an_error() -> None:
    found = finding([1, 2, 3] * 10)
    assert found is not None
    assert (found.severity, found.field, found.count) == (Severity.ERROR, "label", 30)
    assert "look 1-based" in found.message
    assert '"answer_base": 1' in str(found.hint)


def test_a_key_beyond_the_last_option_without_a_key_0_is_an_error_with_its_lines() -> None:
    found = finding([4, 1, 4])
    assert found is not None
    assert (found.severity, found.count, found.lines) == (Severity.ERROR, 2, (1, 3))
    assert "2 have the number of their options as key" in found.message
    one = finding([4, 1])
    assert one is not None
    assert "1 has" in one.message


def test_a_few_rows_without_the_key_0_are_a_warning_with_the_chance() -> None:
    found = finding([1, 2, 3, 1, 2])
    assert found is not None
    assert (found.severity, found.lines) == (Severity.WARNING, ())
    assert "by chance that would be so once in 4 sets of 5 rows" in found.message


@pytest.mark.parametrize("keys", [[0, 1, 2], [0, 4], [1], [1, 2], []])
def test_a_key_0_or_too_few_rows_are_no_finding(keys: list[int]) -> None:
    assert finding(keys) is None


def test_keys_read_from_1_with_a_0_among_them_look_0_based() -> None:
    found = finding([0, 1, 0, 1], options=3, base=1)
    assert found is not None
    assert (found.severity, found.lines) == (Severity.ERROR, (1, 3))
    assert "look 0-based" in found.message
    assert finding([3, 1, 2], options=3, base=1) is None


def test_at_most_ten_lines_are_kept() -> None:
    found = finding([4] * 30)
    assert found is not None
    assert (found.count, len(found.lines)) == (30, 10)


def test_a_base_that_the_request_says_is_not_doubted() -> None:
    assert finding([1, 2, 3, 4] * 10, is_said=True) is None


def test_a_million_rows_give_a_finite_number() -> None:
    found = finding([1] * 20_000)
    assert found is not None
    assert "once in 1,000,000,000 sets" in found.message
