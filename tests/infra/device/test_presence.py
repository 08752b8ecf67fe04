"""A GPU is seen by what the kernel shows, whether or not its driver works."""

from pathlib import Path
from typing import Any

import pytest
from tests.infra.device.machines import machine

from craft.infra.device.presence import driver_version, gpu_present, hidden

PRESENT: list[dict[str, Any]] = [
    {"nodes": ("nvidiactl",)},
    {"nodes": ("nvidia0",)},
    {"nodes": ("nvidia3",)},
    {"nodes": ("nvidia12",)},
    {"nodes": ("dxg",)},
    {"driver": "580.65.06"},
    {"pci": (("0x10de", "0x030200"),)},
    {"pci": (("0x8086", "0x030000"), ("0x10de", "0x030000"))},
]
ABSENT: list[dict[str, Any]] = [
    {},
    {"nodes": ("nvidia-modeset-notes", "nvram", "nvme0")},
    {"pci": (("0x8086", "0x030000"), ("0x10de", "0x040300"))},
]


@pytest.mark.parametrize("shown", PRESENT, ids=str)
def test_a_gpu_is_present_where_the_kernel_shows_one_in_any_way(tmp_path: Path, shown: dict[str, Any]) -> None:
    assert gpu_present({}, system=machine(tmp_path, **shown))


@pytest.mark.parametrize("shown", ABSENT, ids=str)
def test_other_devices_are_no_gpu(tmp_path: Path, shown: dict[str, Any]) -> None:
    assert not gpu_present({}, system=machine(tmp_path, **shown))


def test_a_machine_without_these_folders_has_none(tmp_path: Path) -> None:
    system = machine(tmp_path / "m")
    for folder in (system.sys, system.proc):
        folder.rmdir()
    assert not gpu_present({}, system=system)


@pytest.mark.parametrize(
    ("environment", "is_hidden"),
    [
        ({}, False),
        ({"CUDA_VISIBLE_DEVICES": "0"}, False),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, False),
        ({"CUDA_VISIBLE_DEVICES": ""}, True),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, True),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, True),
        ({"CUDA_VISIBLE_DEVICES": "0", "NVIDIA_VISIBLE_DEVICES": "none"}, True),
    ],
    ids=str,
)
def test_a_gpu_that_the_operator_hides_is_not_present(
    tmp_path: Path, environment: dict[str, str], is_hidden: bool
) -> None:
    assert hidden(environment) is is_hidden
    assert gpu_present(environment, system=machine(tmp_path, nodes=("nvidia0",))) is not is_hidden


def test_the_drivers_version_is_read_from_either_place(tmp_path: Path) -> None:
    assert driver_version(system=machine(tmp_path / "a", driver="580.65.06")) == "580.65.06"
    other = machine(tmp_path / "b")
    (other.sys / "module" / "nvidia").mkdir(parents=True)
    (other.sys / "module" / "nvidia" / "version").write_text("575.57.08\n")
    assert driver_version(system=other) == "575.57.08"
    assert driver_version(system=machine(tmp_path / "c", nodes=("nvidia0",))) is None
