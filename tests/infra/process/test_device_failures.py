"""Failures of a device are told from all others, in torch's exceptions and in the logs of its processes."""

from typing import Never

import pytest
import torch

from craft.errors import CraftError, DeviceFailed, GpuOutOfMemory, Internal, ModelRejected
from craft.infra.models.loading import loading
from craft.infra.process.device_failures import device_failure_in
from craft.infra.process.error_mapping import error_of

_ADVICE = "\nCUDA kernel errors might be asynchronously reported at some other API call."
FAILURES: list[Exception] = [
    *(
        torch.AcceleratorError(f"CUDA error: {words}{_ADVICE}")
        for words in (
            "uncorrectable ECC error encountered",
            "an illegal memory access was encountered",
            "device-side assert triggered",
            "no kernel image is available for execution on the device",
            "CUDA-capable device(s) is/are busy or unavailable",
            "unspecified launch failure",
            "CUDA driver version is insufficient for CUDA runtime version",
        )
    ),
    torch.AcceleratorError("the accelerator is gone"),
    torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:94, unhandled cuda error"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, …)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
    RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU."),
    RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."),
    RuntimeError("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"),
    RuntimeError("No CUDA GPUs are available"),
    RuntimeError("CUDA driver error: unknown error"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    AssertionError("Torch not compiled with CUDA enabled"),
    OSError("libcuda.so.1: cannot open shared object file: No such file or directory"),
    ImportError("libcudart.so.13: cannot open shared object file: No such file or directory"),
]
MEMORY: list[Exception] = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.AcceleratorError(f"CUDA error: out of memory{_ADVICE}"),
    RuntimeError("CUDA driver error: out of memory"),
]
OTHERS: list[Exception] = [
    ValueError("row 7 asks: which CUDA error is CUBLAS_STATUS_ALLOC_FAILED?"),
    KeyError("device-side assert"),
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
    OSError("config.json: cannot open"),
]


def words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:70]


@pytest.mark.parametrize("error", FAILURES, ids=words)
def test_a_failed_device_is_device_failed_and_retryable(error: Exception) -> None:
    known = error_of(error)
    assert (type(known), known.retryable) == (DeviceFailed, True)
    assert str(error).partition("\n")[0][:40] in known.message
    assert "\n" not in known.message
    assert known.hint


@pytest.mark.parametrize("error", FAILURES, ids=words)
@pytest.mark.parametrize("by", ["cause", "context", "group", "loading"])
def test_what_was_made_of_a_failed_device_is_device_failed_too(error: Exception, by: str) -> None:
    assert type(error_of(raised(error, by))) is DeviceFailed


def raised(error: Exception, by: str) -> Exception:
    def fail() -> Never:
        if by == "group":
            raise ExceptionGroup("workers", [ValueError("first"), error])
        if by == "loading":
            with loading("some/model"):
                raise error
        try:
            raise error
        except Exception as inner:
            if by == "cause":
                raise ModelRejected("The model cannot be loaded.") from inner
            raise KeyError("weights")  # noqa: B904 - the context alone is the subject

    try:
        fail()
    except Exception as caught:
        return caught


@pytest.mark.parametrize("error", MEMORY, ids=words)
def test_a_device_without_memory_is_gpu_oom_and_no_failed_device(error: Exception) -> None:
    assert type(error_of(error)) is GpuOutOfMemory


@pytest.mark.parametrize("error", OTHERS, ids=words)
def test_the_same_words_in_other_exceptions_are_no_failed_device(error: Exception) -> None:
    assert type(error_of(error)) is Internal


def test_an_error_of_our_tree_without_such_a_cause_stays_what_it_is() -> None:
    given: CraftError = ModelRejected("CUDA error: in a name")
    assert error_of(given) is given


def test_exceptions_that_are_their_own_causes_end() -> None:
    error, other = ValueError("a"), ValueError("b")
    error.__cause__, other.__cause__ = other, error
    assert type(error_of(error)) is Internal


def test_a_log_tells_the_line_of_the_failed_device() -> None:
    log = "INFO loading\n(EngineCore) RuntimeError: CUDA error: uncorrectable ECC error encountered\nINFO bye"
    assert device_failure_in(log) == "(EngineCore) RuntimeError: CUDA error: uncorrectable ECC error encountered"
    assert device_failure_in("INFO loading\nValueError: no") is None
    assert device_failure_in("torch.OutOfMemoryError: CUDA out of memory.\nNCCL error: aborted") is None
