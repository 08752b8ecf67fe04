"""The most bytes of tensors that a block has at once, above those from before it, on a GPU or on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from tests.gpu.rig.checks import Bench
from torch.profiler import ProfilerActivity, profile


@dataclass(slots=True)
class Peak:
    """Known at the block's end."""

    above_bytes: int = 0


@contextmanager
def measured_peak(bench: Bench) -> Iterator[Peak]:
    """Measure the block. On a CPU every allocation is recorded, which slows it down."""
    peak = Peak()
    if bench.on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        torch.cuda.synchronize()
        peak.above_bytes = torch.cuda.max_memory_allocated() - before
        return
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as recorded:
        yield peak
    peak.above_bytes = _largest_sum(recorded)


def _largest_sum(recorded: Any) -> int:
    """The allocations less the releases, in the order of time, where they are most."""
    results = recorded.profiler.kineto_results
    changes = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    now = largest = 0
    for _, change in changes:
        now += change
        largest = max(largest, now)
    return largest
