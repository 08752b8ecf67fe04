"""Exponential backoff: how long to wait before the next try."""

from typing import NamedTuple

_LARGEST_EXPONENT = 60
"""Every limit is reached long before; a larger exponent could overflow a float."""


class Jitter(NamedTuple):
    """Spreads pauses, so that callers that failed together do not all retry together.

    A pause is multiplied by a number from `low` to `high`; `draw`, from 0 to 1, selects it.
    """

    low: float
    high: float
    draw: float


NO_JITTER = Jitter(1.0, 1.0, 0.0)


def exponential_backoff(
    failures: int, *, first: float, longest: float, factor: float = 2.0, jitter: Jitter = NO_JITTER
) -> float:
    """Seconds to wait after `failures` failures in a row, from 1: `first`, and `factor` times longer after each.

    `longest` limits the pause before jitter.
    """
    steady = min(longest, first * factor ** min(failures - 1, _LARGEST_EXPONENT))
    return steady * (jitter.low + (jitter.high - jitter.low) * jitter.draw)
