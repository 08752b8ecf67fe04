"""Maps exceptions of a stage to our error tree."""

import errno

from craft.errors import CraftError, DeviceFailed, DiskFull, GpuOutOfMemory, HostOutOfMemory, Internal
from craft.infra.process.device_failures import device_failure
from craft.infra.process.memory_errors import FullMemory, full_memory
from craft.infra.process.server_paths import without_paths

_MAX_MESSAGE_LENGTH = 1000
_FULL_DISK_WORDS = ("No space left on device", "PytorchStreamWriter failed writing", "unexpected pos")
"""Messages of safetensors and of torch's writer, which raise no OSError where the disk is full."""


def error_of(error: BaseException) -> CraftError:
    """The error of our tree for an exception. An unknown exception is a defect (Internal).

    A failed device explains whatever else was made of it, so it counts in the exception's causes too, but for full
    memory, of which some libraries tell alike.
    """
    if isinstance(error, GpuOutOfMemory | HostOutOfMemory):
        return error
    if (words := device_failure(error)) is not None:
        return error if isinstance(error, DeviceFailed) else device_failed(words)
    if isinstance(error, CraftError):
        return error
    text = str(error)
    full = full_memory(error)
    if full is FullMemory.DEVICE:
        return GpuOutOfMemory("The accelerator's memory ran out.", hint="Lower the batch size, or use a smaller model.")
    if full is FullMemory.HOST:
        return HostOutOfMemory("The machine's memory ran out.", hint="Lower the batch size, or use a larger machine.")
    no_space = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    if no_space or any(words in text for words in _FULL_DISK_WORDS):
        return DiskFull("No space left where the stage writes.", hint="Free space below the artifacts folder.")
    shown = without_paths(f"{type(error).__name__}: {text}")
    return Internal(shown[:_MAX_MESSAGE_LENGTH], hint="The stage's log has the details.")


def device_failed(words: str) -> DeviceFailed:
    """The error of a device that failed with these words of its libraries."""
    memory = "ALLOC_FAILED" in words
    return DeviceFailed(
        f"The device failed: {without_paths(words)}"[:_MAX_MESSAGE_LENGTH],
        hint="The device's memory may be full: stop what else uses it, or lower the batch size."
        if memory
        else "The stage goes to another worker. Look at `nvidia-smi` and the kernel's log (Xid) on this one's machine.",
    )
