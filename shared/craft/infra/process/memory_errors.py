"""Tells errors of full memory, the device's or the host's, from other ones, by class and words."""

from enum import StrEnum

from craft.infra.process.device_failures import chain, device_memory_ran_out

_WORKSPACE_WORDS = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Of libraries that allocate beside torch."""
_HOST_WORDS = ("DefaultCPUAllocator: can't allocate memory", "std::bad_alloc", "Cannot allocate memory")


class FullMemory(StrEnum):
    """The memory that ran out."""

    DEVICE = "device"
    HOST = "host"


def full_memory(error: BaseException) -> FullMemory | None:
    """The memory whose end an error tells of, itself or by its causes; None for any other error."""
    if device_memory_ran_out(error):
        return FullMemory.DEVICE
    for each in chain(error):
        text = str(each) if isinstance(each, RuntimeError | OSError) else ""
        if any(words in text for words in _WORKSPACE_WORDS):
            return FullMemory.DEVICE
        if isinstance(each, MemoryError) or any(words in text for words in _HOST_WORDS):
            return FullMemory.HOST
    return None
