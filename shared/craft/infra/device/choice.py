"""Resolves a `device` setting. `auto` is the GPU where one is present: never the CPU because the GPU is broken."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from craft.errors import DeviceFailed
from craft.infra.device.presence import THIS_SYSTEM, SystemFolders, driver_version, gpu_present

WantedDevice = Literal["auto", "cpu", "cuda"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class CudaState:
    """The state of CUDA in a process, as torch sees it. `detail` has the words of torch or its driver."""

    usable: bool
    built_for: str | None
    """The version of CUDA that torch was built for; None for a build without CUDA."""
    detail: str = ""


def expected_device(
    wanted: WantedDevice, environment: Mapping[str, str], *, system: SystemFolders = THIS_SYSTEM
) -> Device:
    """The device that the setting means on this machine, without asking a library if it works."""
    if wanted == "auto":
        return "cuda" if gpu_present(environment, system=system) else "cpu"
    return wanted


def chosen_device(
    wanted: WantedDevice,
    cuda: CudaState,
    environment: Mapping[str, str],
    *,
    setting: str,
    system: SystemFolders = THIS_SYSTEM,
) -> Device:
    """The device to compute on. Raises DeviceFailed where that is a GPU which torch cannot use.

    `setting` names the variable that chooses, such as CRAFT_TRAINING__DEVICE.
    """
    if wanted == "cpu":
        return "cpu"
    if cuda.usable:
        return "cuda"
    if wanted == "auto" and not gpu_present(environment, system=system):
        return "cpu"
    raise DeviceFailed(
        f"This machine's GPU cannot be used: {_reason(cuda, system)}.",
        hint=f"Mend that, or set {setting}=cpu to compute on the CPU, which is far slower.",
    )


def _reason(cuda: CudaState, system: SystemFolders) -> str:
    driver = driver_version(system=system)
    has_driver = f"the driver is {driver}" if driver else "no driver is loaded"
    if cuda.built_for is None:
        return f"the installed torch is built without CUDA ({has_driver})"
    words = f": {cuda.detail.rstrip('.')}" if cuda.detail else ""
    return f"torch, built for CUDA {cuda.built_for}, finds no working device, and {has_driver}{words}"
