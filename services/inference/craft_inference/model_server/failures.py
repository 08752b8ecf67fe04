"""Reads from the end of vLLM's log why it ended, and says what to set."""

import re
from pathlib import Path

from craft.errors import CraftError, DeviceFailed, GpuOutOfMemory, HostOutOfMemory, ModelRejected, Unavailable
from craft.infra.process.device_failures import device_failure_in
from craft.infra.process.error_mapping import device_failed

_LAST_LINES = 15
_LAST_BYTES = 64 * 1024
_NO_GPU_MEMORY = re.compile(
    r"OutOfMemoryError|CUDA out of memory|No available memory for the cache|less than desired GPU memory|"
    r"KV cache .* is larger than the available|larger than the maximum number of tokens that can be stored in KV cache"
)
_CAUSE = re.compile(r"(?:^|\] |: )(\w*(?:Error|Exception): \S.*)$", re.MULTILINE)
_NO_HOST_MEMORY = re.compile(
    r"Available memory on node .* less than requested|MemoryError|Cannot allocate memory|"
    r"DefaultCPUAllocator: can't allocate"
)
_NO_ERROR = re.compile(r"\b(?:DEBUG|INFO|WARNING) \d")
_REJECTED = re.compile(
    r"not supported|does not support|does not recognize this architecture|Unrecognized model|"
    r"validation error for (?:ModelConfig|LoRAConfig|VllmConfig)|SafetensorError"
)
_NO_ROOM = re.compile(
    r"max seq len \((?P<tokens>\d+)\), \((?P<needed>[0-9.]+) GiB KV cache is needed, which is larger than the "
    r"available KV cache memory \((?P<free>[0-9.]+) GiB\)\.(?:.*?estimated maximum model length is (?P<fits>\d+))?",
    re.DOTALL,
)


def failure_in(log: Path, *, exit_code: int | None, on_cpu: bool) -> CraftError:
    """The error that the end of a log describes."""
    text = _end_of(log)
    last = "\n".join(text.splitlines()[-_LAST_LINES:])
    # The first error is the cause. Later ones come from the processes that noticed it, one after the other.
    cause = _CAUSE.search(text)
    reason = f": {cause[1]}" if cause else "."
    message = f"vLLM ended with exit code {exit_code}{reason}\nThe end of its log:\n{last}"
    if room := _NO_ROOM.search(text):
        return _no_room(room, f"vLLM ended with exit code {exit_code}: ", last, on_cpu=on_cpu)
    if _NO_GPU_MEMORY.search(text):
        return GpuOutOfMemory(
            message,
            hint="Lower CRAFT_INFERENCE__VLLM__MAX_MODEL_LEN or CRAFT_INFERENCE__VLLM__GPU_MEMORY_UTILIZATION, or "
            "stop what else uses the device.",
        )
    # vLLM warns of libraries that it looks for and does not need.
    told = "\n".join(line for line in text.splitlines() if not _NO_ERROR.search(line))
    if (words := device_failure_in(told)) is not None:
        return DeviceFailed(message, hint=device_failed(words).hint)
    if _NO_HOST_MEMORY.search(text) or exit_code == 128 + 9:
        return HostOutOfMemory(message, hint="Lower CRAFT_INFERENCE__VLLM__CPU_KVCACHE_GIB.")
    # Warnings before the first error may contain the same words.
    if _REJECTED.search(text[cause.start() :] if cause else text):
        return ModelRejected(message, hint="See the model's and vLLM's documentation.", param="base_model")
    return Unavailable(message, hint=f"The whole log is {log.name}.")


def _no_room(room: re.Match[str], ended: str, last: str, *, on_cpu: bool) -> CraftError:
    """vLLM's refusal to start with a context of which not even one sequence fits its cache."""
    tokens, fits = int(room["tokens"]), room["fits"]
    most = f" {int(fits):,} tokens would fit." if fits else ""
    message = (
        f"{ended}one sequence of {tokens:,} tokens needs {room['needed']} GiB of vLLM's KV cache, and there are "
        f"{room['free']} GiB.{most}\nThe end of its log:\n{last}"
    )
    shorter = f"Set CRAFT_INFERENCE__VLLM__MAX_MODEL_LEN to {fits or 'less'} or to auto, or give the cache more: "
    if on_cpu:
        return HostOutOfMemory(message, hint=shorter + "raise CRAFT_INFERENCE__VLLM__CPU_KVCACHE_GIB.")
    return GpuOutOfMemory(
        message,
        hint=shorter + "raise CRAFT_INFERENCE__VLLM__GPU_MEMORY_UTILIZATION, stop what else uses the device, or choose "
        "a smaller model or more devices.",
    )


def _end_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_BYTES))
        return file.read().decode("utf-8", "replace")
