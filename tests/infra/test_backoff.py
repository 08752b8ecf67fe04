"""Pauses grow by a factor up to a cap, and jitter spreads them."""

import math

import pytest

from craft.infra.backoff import Jitter, exponential_backoff


@pytest.mark.parametrize(("failures", "seconds"), [(1, 5.0), (2, 10.0), (3, 20.0), (4, 40.0), (5, 60.0), (6, 60.0)])
def test_each_pause_is_twice_the_one_before_up_to_the_cap(failures: int, seconds: float) -> None:
    assert exponential_backoff(failures, first=5.0, longest=60.0) == seconds


def test_the_factor_says_how_fast_pauses_grow() -> None:
    pauses = [exponential_backoff(failures, first=1.0, longest=math.inf, factor=4.0) for failures in range(1, 5)]
    assert pauses == [1.0, 4.0, 16.0, 64.0]


@pytest.mark.parametrize(("draw", "seconds"), [(0.0, 30.0), (0.5, 45.0), (1.0, 60.0)])
def test_jitter_spreads_a_pause_between_its_two_ends(draw: float, seconds: float) -> None:
    assert exponential_backoff(9, first=5.0, longest=60.0, jitter=Jitter(0.5, 1.0, draw)) == seconds


def test_after_a_million_failures_there_still_is_a_pause() -> None:
    assert exponential_backoff(1_000_000, first=5.0, longest=60.0) == 60.0
