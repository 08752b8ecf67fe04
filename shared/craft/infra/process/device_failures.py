"""Recognises the failure of an accelerator, its driver or its libraries, by the exceptions and words of torch and vLLM.

The words are those of CUDA's runtime and driver, of the libraries on top of them, and of torch's own checks. They are
compared as text, because the calling process may not import torch.
"""

import re
from collections.abc import Iterator

_NO_MEMORY = re.compile(r"(?:CUDA|HIP)(?: \w+)? error: out of memory|cudaErrorMemoryAllocation|CUDA out of memory")
_FAILED = re.compile(
    r"(?:CUDA|HIP)(?: \w+)? error|cuda runtime error|Triton Error \[(?:CUDA|HIP)\]|"
    r"\b(?:CUBLAS|CUDNN|CUSOLVER|CUSPARSE|CUFFT|CURAND|HIPBLAS|ROCBLAS|MIOPEN)_STATUS_\w+|\bcuDNN error\b|"
    r"\bNCCL error\b|\bRCCL error\b|\bnccl(?:System|Internal|Remote|UnhandledCuda)Error\b|"
    r"unhandled (?:cuda|system) error|"
    r"\bCUDA_ERROR_\w+|\bcudaError\w+|error from cuda\w+|"
    r"\bNVIDIA driver\b.{0,40}(?:too old|not found|not loaded)|no NVIDIA driver|"
    r"CUDA driver version is insufficient|CUDA driver initialization failed|CUDA unknown error|"
    r"CUDA-capable device|No CUDA GPUs are available|Can't initialize NVML|"
    r"NVML(?:Error)?.{0,20}(?:Lost|Mismatch|Unknown)|"
    r"Driver/library version mismatch|GPU (?:is lost|has fallen off the bus)|"
    r"no kernel image is available|device-side assert|illegal memory access|uncorrectable (?:ECC|NVLink)|"
    r"unspecified launch failure|misaligned address|"
    r"not compiled with CUDA|not compatible with the current PyTorch installation|"
    r"\blib(?:cuda|cudart|cublas\w*|cudnn\w*|nccl|nvrtc|nvidia-ml)\.so[.\d]*: (?:cannot open|undefined)",
    re.IGNORECASE,
)
_KINDS = (RuntimeError, AssertionError, ImportError, OSError)
"""torch raises these; others quote texts of users, which may contain any words."""
_MAX_CHAIN = 20


def device_failure(error: BaseException) -> str | None:
    """The words of a failed device in the exception, in its causes or in its group; None if no device failed.

    A lack of the device's memory is none.
    """
    for each in chain(error):
        words = str(each)
        if _of_torch(each, "OutOfMemoryError") or _NO_MEMORY.search(words):
            return None
        by_type = _of_torch(each, "AcceleratorError") or _of_torch(each, "DistBackendError")
        if by_type or (isinstance(each, _KINDS) and _FAILED.search(words)):
            return _first_line(words) or type(each).__name__
    return None


def device_failure_in(text: str) -> str | None:
    """The line of a log that tells of a failed device; None if there is none, or if its memory ran out before."""
    for line in text.splitlines():
        if _NO_MEMORY.search(line):
            return None
        if _FAILED.search(line):
            return line.strip()[:500]
    return None


def device_memory_ran_out(error: BaseException) -> bool:
    """True if the exception, or a cause of it, says that the device has no memory left."""
    return any(_of_torch(each, "OutOfMemoryError") or _NO_MEMORY.search(str(each)) for each in chain(error))


def _of_torch(error: BaseException, name: str) -> bool:
    """True if the exception is torch's of that name, or derived from it."""
    return any(kind.__name__ == name and kind.__module__.startswith("torch") for kind in type(error).__mro__)


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, then its causes and its group's members, each once and at most `_MAX_CHAIN`."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MAX_CHAIN:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(each.exceptions)
        cause = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        waiting.extend([] if cause is None else [cause])


def _first_line(words: str) -> str:
    """The first line: torch adds advice for debugging to it."""
    return words.strip().partition("\n")[0][:500]
