"""A gain over cut or unreadable replies of the base model is told from a real one."""

from collections.abc import Callable

import pytest

from craft.core.evaluated import Evaluated
from craft.core.judging.answers import Outcome
from craft.core.replies import gain
from craft.core.replies.gain import gain_finding
from craft.errors import FindingDetail, Severity

RIGHT, WRONG, REFUSED, UNPARSED = Outcome.RIGHT, Outcome.WRONG, Outcome.REFUSED, Outcome.UNPARSED
Say = Callable[[int], Outcome]


def model(say: Say, count: int = 100) -> list[Evaluated]:
    return [Evaluated(f"q{n}", say(n)) for n in range(count)]


def first(count: int) -> set[str]:
    return {f"q{n}" for n in range(count)}


def found(candidate: Say, baseline: Say, flawed: int) -> FindingDetail | None:
    return gain_finding(model(candidate), model(baseline), flawed=first(flawed), examples=["“Q” → “<think>”"])


def only_whole_is_right(number: int) -> Outcome:
    """The base is wrong where its reply was cut (the first 40), and else right three times of five."""
    return RIGHT if number >= 40 and number % 5 < 3 else WRONG


def without_cuts(number: int) -> Outcome:
    """The same model with whole replies."""
    return RIGHT if number % 5 < 3 else WRONG


def test_a_model_that_only_stopped_being_cut_gained_nothing() -> None:
    finding = found(without_cuts, only_whole_is_right, 40)
    assert finding is not None
    assert finding.severity is Severity.WARNING
    assert finding.message == (
        "Most of the gain is no gain: THS is +37.5 points, but M0\u00a0BASIC's reply was cut or could not be read for "
        "40 of 100 questions; without them it is +0.0 points."
    )
    assert (finding.count, finding.examples) == (40, ("“Q” → “<think>”",))


def test_a_base_with_few_whole_replies_tells_little() -> None:
    finding = found(without_cuts, lambda n: RIGHT if n > 97 else WRONG, 90)
    assert finding is not None
    assert finding.message.startswith(
        "M0\u00a0BASIC's reply was cut or could not be read for 90 of 100 questions, so its"
    )


def test_a_base_that_is_never_wrong_on_whole_replies_defines_no_ths() -> None:
    finding = found(lambda _: RIGHT, lambda n: WRONG if n < 40 else RIGHT, 40)
    assert finding is not None
    assert finding.message.endswith("without them no THS is defined.")


@pytest.mark.parametrize("flawed", [0, 5])
def test_a_few_cut_replies_are_no_reason(flawed: int) -> None:
    assert found(without_cuts, only_whole_is_right, flawed) is None


def test_a_gain_that_whole_replies_show_too_is_a_gain() -> None:
    refuses_what_is_wrong: Say = lambda n: RIGHT if n % 5 < 3 else REFUSED  # noqa: E731 - a model in a line
    assert found(refuses_what_is_wrong, without_cuts, 40) is None


def test_no_gain_needs_no_reason() -> None:
    assert found(lambda _: WRONG, only_whole_is_right, 40) is None
    assert found(lambda _: RIGHT, lambda _: RIGHT, 40) is None
    assert found(lambda _: RIGHT, lambda n: UNPARSED if n < 40 else RIGHT, 40) is None


def test_the_rule_taken_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gain, "MIN_KEPT_GAIN", -1.0)
    assert found(without_cuts, only_whole_is_right, 40) is None
