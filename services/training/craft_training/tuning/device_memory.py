"""The memory of the device that trains: the first limits of a pass, and errors where one row alone does not fit."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from craft.core.rows.errors import MAX_DETAILS
from craft.errors import CraftError, ErrorDetail, GpuOutOfMemory, GpuTooSmall, HostTooSmall
from craft.infra.models.training_memory import SURE_SHARE, TrainingMemory
from craft.infra.process.memory_errors import FullMemory
from craft_training.tuning.passes import Cutter, Pass, PassLimit, PassLimits
from craft_training.tuning.samples import Sample

_USED_SHARE = 0.9
"""Of the free memory; the rest is for workspaces of libraries and for what fragmentation loses."""
_OTHERS_SHARE, _CONTEXT_BYTES = 0.05, 2**30
"""Other processes' part of the device above which it may fit when they have gone, beside CUDA's own context."""
_WAYS_OUT = "Shorten or remove the row, lower training.max_length or training.lora_r, or use a larger device."


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes of an accelerator: `free` for this process, with what its allocator keeps; `own` are in use by it."""

    total: int
    free: int
    own: int

    @property
    def others(self) -> int:
        """Bytes that other processes hold, and the driver."""
        return self.total - self.free - self.own


def device_memory(device: torch.device) -> DeviceMemory | None:
    """The memory of an accelerator now; None for a processor, whose memory is the host's."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    own = torch.cuda.memory_allocated(device)
    return DeviceMemory(total=total, free=free + torch.cuda.memory_reserved(device) - own, own=own)


def first_limits(memory: TrainingMemory, found: DeviceMemory | None) -> PassLimits:
    """The limits to begin with, for a loaded base model without an adapter. A host's memory gives none."""
    if found is None:
        return PassLimits()
    left = max(1, int(_USED_SHARE * found.free) - memory.adapter)
    return PassLimits(kept=PassLimit(together=left, alone=left), checkpointed=PassLimit(together=left))


def check_rows(samples: Sequence[Sample], cutter: Cutter, found: DeviceMemory | None) -> None:
    """Raises GpuTooSmall for rows that cannot fit into the empty device, alone and with checkpointing.

    `found` as for `first_limits`.
    """
    if found is None:
        return
    room = found.total - found.own - cutter.memory.adapter
    needs = [cutter.alone(sample) for sample in samples]
    long = [each for each in needs if SURE_SHARE * each.needs > room]
    if long:
        raise GpuTooSmall(
            f"{len(long)} of {len(samples):,} training rows cannot fit into the accelerator's memory. "
            f"The first: {_told(long[0])}; beside the model {_gib(max(0, room))} of {_gib(found.total)} are left.",
            hint=_WAYS_OUT,
            param="training.max_length",
            details=[
                ErrorDetail(f"{len(each.samples[0].tokens):,} tokens.", "question", each.samples[0].line)
                for each in long[:MAX_DETAILS]
            ],
        )


def too_small(failed: Pass, full: FullMemory, found: DeviceMemory | None) -> CraftError:
    """The error where memory ran out in a pass and nothing is left to try.

    Another attempt may help only where other processes hold a part of the accelerator.
    """
    how = "with gradient checkpointing" if failed.checkpointed else "without gradient checkpointing, which it lacks"
    detail = [ErrorDetail(f"{failed.size.tokens:,} tokens.", "question", failed.samples[0].line)]
    if full is FullMemory.HOST:
        message = f"The machine's memory ran out in a pass of one training row, {how}: {_told(failed)}."
        return HostTooSmall(message, hint=_WAYS_OUT, param="training.max_length", details=detail)
    message = f"The accelerator's memory ran out in a pass of one training row, {how}: {_told(failed)}."
    if found is not None and found.others > _OTHERS_SHARE * found.total + _CONTEXT_BYTES:
        return GpuOutOfMemory(
            f"{message} Other processes hold {_gib(found.others)} of {_gib(found.total)}.",
            hint="End what else uses the accelerator, or use another one.",
            details=detail,
        )
    return GpuTooSmall(message, hint=_WAYS_OUT, param="training.max_length", details=detail)


def release_cached(device: torch.device) -> None:
    """Give memory that is no longer used back to the device, so that fragments of it do not stand in the way."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def watch_peak(device: torch.device) -> None:
    """Count `peak_bytes` from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """The most bytes that tensors took on an accelerator since `watch_peak`; 0 for a processor."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else 0


def _told(alone: Pass) -> str:
    sample = alone.samples[0]
    return f"{sample.name or sample.id}, {len(sample.tokens):,} tokens, about {_gib(alone.needs)}"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
