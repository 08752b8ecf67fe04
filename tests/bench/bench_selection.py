"""Measures the selection from a million knowledge states: its seconds and peak memory, in a process of its own.

python tests/bench/bench_selection.py [--states 1000000]
"""

import argparse
import random
import resource
import time

from craft.core.flow import KnowledgeFlow
from craft.core.knowledge import KnowledgeState
from craft.core.selection import QuestionFlow, select
from craft.core.strategies import SelectionRule, Strategy
from craft_datasets.selection import choose_stateless  # noqa: F401 - part of the memory of the service's process


def synthetic(count: int, seed: int) -> list[QuestionFlow]:
    """Seeded random states of ten samples: correctness in tenths, certainty continuous."""
    rng = random.Random(seed)
    return [
        QuestionFlow(
            f"question-{n}",
            KnowledgeState(rng.randrange(11) / 10, rng.random()),
            KnowledgeFlow(rng.uniform(-0.3, 0.3), 0.0),
        )
        for n in range(count)
    ]


def main() -> None:
    """Print one line for each strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--states", type=int, default=1_000_000)
    count = parser.parse_args().states
    states = synthetic(count, seed=7)
    rule = SelectionRule(n_van=count // 5, n_idk=count // 20, seed=7)
    for strategy in Strategy:
        began = time.perf_counter()
        selection = select(states, strategy=strategy, rule=rule)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        sizes = f"{len(selection.van):,} van, {len(selection.idk):,} idk, {len(selection.dropped):,} dropped"
        print(f"{strategy:20} {count:,} states in {seconds:5.2f} s, peak {peak:.2f} GiB of memory: {sizes}")


if __name__ == "__main__":
    main()
