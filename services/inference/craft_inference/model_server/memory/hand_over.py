"""Decides how vLLM gives a GPU that it shares to another stage: asleep, and back within seconds, or stopped.

A sleeping server keeps its weights in the host's memory, and 1 to 3 GiB on the GPU for its context and graphs.
"""

import logging
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_GIB = 2**30
_LARGE_GPU_BYTES = 40 * _GIB
_SPARE_HOST_BYTES = 4 * _GIB
"""Stays free for the other processes of the host when the weights are there."""
_QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
_QUERY_SECONDS = 20.0
_log = logging.getLogger("craft.model_server")


@dataclass(frozen=True, slots=True)
class Memory:
    """The bytes that decide: of the smallest visible GPU, free on the host, and of the model's weights.

    None stands for what is not known.
    """

    gpu: int | None
    host_free: int | None
    weights: int


def sleeps(
    setting: Literal["auto", "sleep", "stop", "stay"], memory: Memory, *, on_cpu: bool, shares_device: bool
) -> bool:
    """True if the server is to sleep when another stage needs its device. On CPU vLLM cannot.

    `shares_device`: other stages use the device in turn; else nobody ever asks for it.
    """
    if on_cpu or not shares_device or setting in ("stop", "stay"):
        if on_cpu and setting == "sleep":
            _log.warning("no_sleep_on_cpu", extra={"detail": "CRAFT_INFERENCE__VLLM__SLEEP=sleep needs a GPU."})
        return False
    if setting == "sleep":
        return True
    if memory.gpu is None or memory.host_free is None:
        return False
    return memory.gpu >= _LARGE_GPU_BYTES and memory.host_free >= memory.weights + _SPARE_HOST_BYTES


def memory_for(model: Path) -> Memory:
    """The memory of this machine and of a model's weights."""
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return Memory(gpu=_gpu_bytes(), host_free=host_free_bytes(Path("/")), weights=weights)


def host_free_bytes(root: Path) -> int | None:
    """The memory that a process may still take: the host's, or the rest of the container's limit. None if unknown."""
    with suppress(OSError, ValueError, StopIteration):
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]) * 1024
        return min(free, _container_free_bytes(root / "sys/fs/cgroup", free))
    return None


def _container_free_bytes(group: Path, otherwise: int) -> int:
    try:
        limit = int((group / "memory.max").read_text())  # "max" is no number
        kept = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Files that were read count too, but the kernel drops them when a process needs the memory.
        return limit - int(kept["anon"]) - int(kept["shmem"])
    except (OSError, ValueError, KeyError):
        return otherwise


def _gpu_bytes() -> int | None:
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        found = subprocess.run(  # noqa: S603 - constant words
            _QUERY, capture_output=True, text=True, check=True, timeout=_QUERY_SECONDS
        )
        return min(int(line) for line in found.stdout.split()) * 2**20
    return None
