"""Types that JSON distinguishes are not converted: neither a string nor a boolean is a number."""

from datetime import UTC, datetime
from enum import StrEnum

import pytest
from pydantic import ValidationError

from craft.contracts.base import Contract


class Colour(StrEnum):
    RED = "red"


class Inner(Contract):
    type: float = 0.0
    default: int = 0


class Outer(Contract):
    number: float | None = None
    whole: int = 0
    on: bool = False
    colour: Colour = Colour.RED
    at: datetime | None = None
    by_name: dict[str, float] | None = None
    inner: Inner | None = None
    many: list[Inner] | None = None


@pytest.mark.parametrize(
    "given",
    [
        {"number": "1.5"},
        {"number": True},
        {"whole": "3"},
        {"whole": True},
        {"whole": 1.5},
        {"on": 1},
        {"on": "yes"},
        {"by_name": {"a": "1"}},
        {"inner": {"type": "1"}},
        {"inner": {"default": False}},
        {"many": [{"default": 1}, {"default": "1"}]},
    ],
)
def test_what_is_no_number_or_truth_value_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Outer.model_validate(given)


def test_whole_numbers_are_numbers_and_enums_and_times_are_texts() -> None:
    found = Outer.model_validate({"number": 1, "colour": "red", "at": "2026-01-01T00:00:00Z"})
    assert (found.number, found.colour, found.at) == (1.0, Colour.RED, datetime(2026, 1, 1, tzinfo=UTC))
