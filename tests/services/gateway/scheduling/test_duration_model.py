"""How long a stage takes, from those that were done: worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craft.contracts.documents.estimate import Basis
from craft.contracts.stages.attempts import AttemptWork
from craft.contracts.stages.kinds import StageKind
from craft_gateway.scheduling.duration_model import DurationModel, PastStage, fit_line, relevant

MODEL, OTHER = "a" * 64, "b" * 64


def past(*pairs: tuple[float, float], model: str = MODEL, parameters: int | None = 100) -> list[PastStage]:
    """From units and seconds."""
    return [
        PastStage(
            seconds, AttemptWork(units=units, model=model, parameters=parameters, generated_tokens=int(20 * units))
        )
        for units, seconds in pairs
    ]


def test_nothing_is_known_of_what_was_never_done() -> None:
    found = DurationModel.of([], Basis.SAME).seconds(100)
    assert (found.seconds, found.low, found.high, found.based_on, found.basis) == (None, None, None, 0, None)


def test_fixed_time_and_time_for_each_unit_are_told_apart() -> None:
    assert fit_line(past((10, 7), (100, 25), (1000, 205))) == pytest.approx((5.0, 0.2))
    assert DurationModel.of(past((10, 7), (100, 25), (1000, 205)), Basis.SAME).seconds(500).seconds == pytest.approx(
        105.0
    )


def test_one_stage_that_hung_for_hours_changes_little() -> None:
    usual = past((10, 7), (100, 25), (200, 45), (500, 105), (1000, 205))
    hung = [*usual, *past((150, 40_000))]
    assert DurationModel.of(hung, Basis.SAME).seconds(500).seconds == pytest.approx(105.0, rel=0.1)


def test_of_one_size_only_all_time_is_the_units() -> None:
    assert fit_line(past((10, 5), (10, 7), (10, 6))) == pytest.approx((0.0, 0.6))


def test_larger_stages_that_were_faster_give_no_time_that_shrinks_with_size() -> None:
    fixed, slope = fit_line(past((10, 9), (100, 5), (1000, 1)))
    assert (fixed, slope) == (5.0, 0.0)


@pytest.mark.parametrize(("count", "known"), [(1, False), (2, False), (3, True)])
def test_an_interval_needs_three_stages(count: int, known: bool) -> None:
    found = DurationModel.of(past(*[(10.0 * n, 10.0 * n) for n in range(1, count + 1)]), Basis.SAME).seconds(15)
    assert found.seconds == pytest.approx(15.0)
    assert (found.low is not None, found.high is not None) == (known, known)


def test_the_interval_spans_how_far_past_stages_were_from_the_line() -> None:
    found = DurationModel.of(past((10, 10), (10, 5), (10, 20)), Basis.SAME).seconds(10)
    assert found.seconds == 10
    assert found.low == pytest.approx(5 / (4 / 3))
    assert found.high == pytest.approx(20 * 4 / 3)


def test_with_a_model_of_twice_the_size_it_takes_twice_as_long_and_is_less_sure() -> None:
    stages = past((10, 10), (10, 9), (10, 11), model=OTHER, parameters=100)
    scaled, basis = relevant(stages, StageKind.PROBE, MODEL, 200)
    assert basis is Basis.SCALED
    found, same = DurationModel.of(scaled, basis).seconds(10), DurationModel.of(stages, Basis.SAME).seconds(10)
    assert found.seconds == pytest.approx(20.0)
    assert found.high is not None
    assert same.high is not None
    assert found.high / 20 == pytest.approx(2 * same.high / 10)


def test_the_same_model_alone_counts_where_it_was_run() -> None:
    mixed = [*past((10, 10)), *past((10, 99), model=OTHER)]
    assert relevant(mixed, StageKind.TUNE, MODEL, 100) == (past((10, 10)), Basis.SAME)


def test_a_kind_without_a_model_counts_all_and_unknown_sizes_count_for_nothing() -> None:
    others = past((10, 10), model=OTHER, parameters=None)
    assert relevant(others, StageKind.FLOW, MODEL, None) == (others, Basis.SAME)
    assert relevant(others, StageKind.TUNE, MODEL, 100)[0] == []
    assert relevant(past((10, 10), model=OTHER), StageKind.TUNE, MODEL, None)[0] == []


def test_tokens_are_the_median_for_each_unit() -> None:
    assert DurationModel.of(past((10, 1), (20, 1)), Basis.SAME).generated_tokens(30) == 600
    assert DurationModel.of([], Basis.SAME).generated_tokens(30) is None


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=20), st.floats(0, 1e7))
def test_no_history_gives_negative_time_or_an_interval_without_its_estimate(
    pairs: list[tuple[float, float]], units: float
) -> None:
    found = DurationModel.of(past(*pairs), Basis.SAME).seconds(units)
    assert found.seconds is not None
    assert found.seconds >= 0
    if found.low is not None and found.high is not None:
        assert found.low <= found.seconds <= found.high
