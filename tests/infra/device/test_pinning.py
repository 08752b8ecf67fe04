"""A process sees the GPUs that it was given and no others."""

import pytest

from craft.errors import DeviceFailed
from craft.infra.device.pinning import pinned, without_devices

SETTING = "CRAFT_TRAINING__DEVICE_INDEX"


@pytest.mark.parametrize(
    ("visible", "index", "count", "shown"),
    [
        (None, 0, 1, "0"),
        (None, 3, 1, "3"),
        (None, 2, 2, "2,3"),
        ("4,6", 0, 1, "4"),
        ("4, 6", 1, 1, "6"),
        ("GPU-8f1a,GPU-77bb,MIG-2c", 1, 2, "GPU-77bb,MIG-2c"),
    ],
)
def test_devices_are_counted_among_the_visible_ones(visible: str | None, index: int, count: int, shown: str) -> None:
    given = {"HOME": "/h"} | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    environment = pinned(given, index=index, count=count, setting=SETTING)
    assert environment["CUDA_VISIBLE_DEVICES"] == shown
    assert environment["HOME"] == "/h"


def test_numbers_are_those_of_nvidia_smi_unless_the_operator_says_otherwise() -> None:
    assert pinned({}, index=1, setting=SETTING)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    given = {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    assert pinned(given, index=1, setting=SETTING)["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


@pytest.mark.parametrize(("visible", "index", "count"), [("4", 1, 1), ("4,6", 0, 3), ("", 0, 1)])
def test_a_device_that_is_not_visible_is_refused_with_the_setting(visible: str, index: int, count: int) -> None:
    with pytest.raises(DeviceFailed, match=SETTING):
        pinned({"CUDA_VISIBLE_DEVICES": visible}, index=index, count=count, setting=SETTING)


def test_a_process_of_the_cpu_sees_no_device() -> None:
    assert without_devices({"CUDA_VISIBLE_DEVICES": "0,1"})["CUDA_VISIBLE_DEVICES"] == ""
