"""Shows a process the devices that it computes on, and no others, by the variables that CUDA reads.

A library that sees two devices may use both without being asked: the Trainer wraps its model in DataParallel then.
"""

from collections.abc import Mapping

from craft.errors import DeviceFailed

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"


def pinned(environment: Mapping[str, str], *, index: int, count: int = 1, setting: str) -> dict[str, str]:
    """The environment with `count` devices from number `index` on, of those that it showed before.

    Raises DeviceFailed where it showed fewer; `setting` names the variable of `index`.
    """
    numbers = range(index, index + count)
    before = environment.get(_VISIBLE)
    if before is None:
        shown = [str(number) for number in numbers]
    else:
        visible = [name.strip() for name in before.split(",") if name.strip()]
        if len(visible) < index + count:
            raise DeviceFailed(
                f"{_VISIBLE}={before} shows {len(visible)} devices; {setting}={index} asks for number {numbers[-1]}.",
                hint=f"Set {setting} to a number from 0 on that counts the visible devices, or show more of them.",
            )
        shown = [visible[number] for number in numbers]
    # By default CUDA counts from the fastest device on, and nvidia-smi by the bus.
    return {_ORDER: "PCI_BUS_ID", **environment, _VISIBLE: ",".join(shown)}


def without_devices(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that computes on the CPU only."""
    return {**environment, _VISIBLE: ""}
