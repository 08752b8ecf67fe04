"""Full memory is told by class and words, of the device and of the host, also behind other errors."""

import errno

import pytest
import torch

from craft.errors import GpuOutOfMemory, HostOutOfMemory
from craft.infra.process.error_mapping import error_of
from craft.infra.process.memory_errors import FullMemory, full_memory


def caused(by: BaseException) -> BaseException:
    error = RuntimeError("the step failed")
    error.__cause__ = by
    return error


DEVICE = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    caused(torch.OutOfMemoryError("CUDA out of memory.")),
]
WORKSPACES = [
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]
HOST = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("std::bad_alloc"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    caused(MemoryError()),
]
OTHERS = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
    ValueError("std::bad_alloc is only quoted here"),
    OSError(errno.ENOSPC, "No space left on device"),
]


@pytest.mark.parametrize("error", DEVICE)
def test_the_devices_memory_is_known_by_its_words(error: BaseException) -> None:
    assert full_memory(error) is FullMemory.DEVICE
    assert isinstance(error_of(error), GpuOutOfMemory)


@pytest.mark.parametrize("error", WORKSPACES)
def test_a_library_without_memory_for_its_workspace_is_known(error: BaseException) -> None:
    assert full_memory(error) is FullMemory.DEVICE


@pytest.mark.parametrize("error", HOST)
def test_the_hosts_memory_is_known_by_its_words(error: BaseException) -> None:
    assert full_memory(error) is FullMemory.HOST
    assert isinstance(error_of(error), HostOutOfMemory)


@pytest.mark.parametrize("error", OTHERS)
def test_other_errors_are_not_full_memory(error: BaseException) -> None:
    assert full_memory(error) is None
    assert not isinstance(error_of(error), GpuOutOfMemory | HostOutOfMemory)


def test_errors_in_a_circle_are_looked_at_once() -> None:
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    assert full_memory(one) is None
