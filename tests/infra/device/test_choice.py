"""`auto` is the GPU where one is present: a broken one is an error, and never the CPU."""

from pathlib import Path

import pytest
from tests.infra.device.machines import machine

from craft.errors import DeviceFailed
from craft.infra.device.choice import CudaState, Device, WantedDevice, chosen_device, expected_device

WORKS = CudaState(usable=True, built_for="13.0")
BROKEN = CudaState(usable=False, built_for="13.0", detail="CUDA initialization: The NVIDIA driver is too old.")
NO_CUDA = CudaState(usable=False, built_for=None)
SETTING = "CRAFT_TRAINING__DEVICE"
GPU = ("nvidia0", "nvidiactl")


@pytest.mark.parametrize("cuda", [BROKEN, NO_CUDA])
@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_gpu_that_torch_cannot_use_is_an_error_that_says_what_to_set(
    tmp_path: Path, wanted: WantedDevice, cuda: CudaState
) -> None:
    with pytest.raises(DeviceFailed) as raised:
        chosen_device(wanted, cuda, {}, setting=SETTING, system=machine(tmp_path, nodes=GPU, driver="470.82.01"))
    assert raised.value.hint is not None
    assert "CRAFT_TRAINING__DEVICE=cpu" in raised.value.hint
    assert "the driver is 470.82.01" in raised.value.message
    expected = "built without CUDA" if cuda is NO_CUDA else "driver is too old"
    assert expected in raised.value.message


def test_a_gpu_without_a_driver_is_said_to_have_none(tmp_path: Path) -> None:
    system = machine(tmp_path, pci=(("0x10de", "0x030200"),))
    with pytest.raises(DeviceFailed, match="no driver is loaded"):
        chosen_device("auto", BROKEN, {}, setting=SETTING, system=system)


def test_an_explicit_cuda_is_an_error_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(DeviceFailed):
        chosen_device("cuda", NO_CUDA, {}, setting=SETTING, system=machine(tmp_path))


@pytest.mark.parametrize("wanted", ["auto", "cpu", "cuda"])
@pytest.mark.parametrize("gpu", [True, False])
def test_where_torch_can_use_a_gpu_only_cpu_means_the_cpu(tmp_path: Path, wanted: WantedDevice, gpu: bool) -> None:
    system = machine(tmp_path, nodes=GPU if gpu else ())
    assert chosen_device(wanted, WORKS, {}, setting=SETTING, system=system) == ("cpu" if wanted == "cpu" else "cuda")


@pytest.mark.parametrize(
    ("wanted", "nodes", "environment"),
    [("auto", (), {}), ("auto", GPU, {"CUDA_VISIBLE_DEVICES": ""}), ("cpu", GPU, {})],
)
def test_without_a_gpu_or_by_request_the_cpu_is_taken(
    tmp_path: Path, wanted: WantedDevice, nodes: tuple[str, ...], environment: dict[str, str]
) -> None:
    system = machine(tmp_path, nodes=nodes)
    assert chosen_device(wanted, NO_CUDA, environment, setting=SETTING, system=system) == "cpu"
    assert expected_device(wanted, environment, system=system) == "cpu"


@pytest.mark.parametrize(("wanted", "device"), [("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_the_expected_device_is_the_gpu_that_is_there_working_or_not(
    tmp_path: Path, wanted: WantedDevice, device: Device
) -> None:
    assert expected_device(wanted, {}, system=machine(tmp_path, nodes=("nvidia3",))) == device
