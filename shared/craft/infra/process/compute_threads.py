"""Lets a CPU's compute threads wait for each other cheaply: they spin shortly, and then they sleep.

OpenMP's threads meet at a barrier after each matrix product. By default they spin there for milliseconds and more.
Where another process takes one of their cores, the others then burn theirs until it gives way, and all stand still.
"""

from collections.abc import Mapping

SPINS = {"GOMP_SPINCOUNT": "700", "KMP_BLOCKTIME": "1"}
"""Rounds of GNU's OpenMP (microseconds) and milliseconds of Intel's; tests/bench/bench_threads.py measures them."""
_SAID_BY_OPERATOR = "OMP_WAIT_POLICY"


def with_short_spins(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that computes. What an operator has set stays."""
    if _SAID_BY_OPERATOR in environment:
        return dict(environment)
    return {**SPINS, **environment}
