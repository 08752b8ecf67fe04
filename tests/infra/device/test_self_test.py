"""The self-test passes on a device that computes rightly, and tells what is wrong with any other."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest
import torch

from craft.errors import DeviceFailed
from craft.infra.device import self_test
from craft.infra.device.cuda import cuda_state, multiplies_bfloat16, torch_device
from craft.infra.device.report import DeviceReport
from craft.infra.device.self_test import check_product, device_report

Multiply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_GIB = 2**30


def right(left: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return left @ other


def one_wrong_value(left: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    product = left @ other
    product[3, 5] += 40
    return product


def not_a_number(left: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    product = left @ other
    product[-1, -1] = float("nan")
    return product


def raises(error: Exception) -> Multiply:
    def multiply(left: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        raise error

    return multiply


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[Multiply], None]:
    """A fake torch.cuda with one GPU, whose product is the given function."""

    def fake(multiply: Multiply) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
        monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "NVIDIA H200")
        monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (100 * _GIB, 139 * _GIB))
        monkeypatch.setattr(self_test, "_product_on_device", multiply)

    return fake


def test_a_right_product_passes_in_bfloat16() -> None:
    check_product(right)


@pytest.mark.parametrize("multiply", [one_wrong_value, not_a_number, lambda a, b: torch.zeros(len(a), b.shape[1])])
def test_a_wrong_product_is_a_failed_device(multiply: Multiply) -> None:
    with pytest.raises(DeviceFailed, match="multiplies wrongly"):
        check_product(multiply)


def test_a_device_that_is_well_is_described(gpu: Callable[[Multiply], None]) -> None:
    gpu(right)
    report = device_report(setting="CRAFT_TRAINING__DEVICE")
    assert (report.failure, report.devices, report.torch) == (None, 1, torch.__version__)
    assert report.title == "NVIDIA H200, 139 GiB"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), "uncorrectable ECC"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED"), "CUBLAS_STATUS_NOT_INITIALIZED"),
        (ValueError("anything else"), "anything else"),
    ],
)
def test_whatever_the_device_raises_is_the_failure(
    gpu: Callable[[Multiply], None], error: Exception, told: str
) -> None:
    gpu(raises(error))
    assert told in (device_report(setting="S").failure or "")


def test_a_device_whose_memory_another_process_holds_is_well(gpu: Callable[[Multiply], None]) -> None:
    gpu(raises(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB.")))
    assert device_report(setting="S").failure is None


def test_without_a_device_the_program_says_so_and_names_the_setting() -> None:
    command = [sys.executable, "-m", "craft.infra.device.self_test", str(os.getpid()), "CRAFT_TRAINING__DEVICE"]
    done = subprocess.run(command, capture_output=True, check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    report = DeviceReport.model_validate(json.loads(done.stdout.splitlines()[-1]))
    assert "CRAFT_TRAINING__DEVICE=cpu" in (report.failure or "")


def test_the_words_of_torchs_warning_are_the_detail(monkeypatch: pytest.MonkeyPatch) -> None:
    def warns() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old", stacklevel=1)
        return False

    monkeypatch.setattr("torch.cuda.is_available", warns)
    assert cuda_state().detail == "CUDA initialization: The NVIDIA driver on your system is too old"


def test_the_setting_cpu_does_not_start_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def starts() -> bool:
        raise AssertionError("CUDA was started")

    monkeypatch.setattr("torch.cuda.is_available", starts)
    assert torch_device("cpu", setting="S") == "cpu"


def test_a_gpu_that_emulates_bfloat16_does_not_multiply_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a T4 answers.
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not multiplies_bfloat16("cuda")
