"""Tells if this machine shows an NVIDIA GPU to this process, whether or not its driver works. It runs no program."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_NVIDIA = "0x10de"
_DISPLAY_CLASS = "0x03"
"""The PCI class of display and 3D controllers: a GPU's sound or USB function is none."""
_NODE = re.compile(r"nvidia(?:ctl|\d+)$|dxg$")
"""Device files of the driver, and of Windows' GPUs in WSL. A container that got GPU 3 has `nvidia3` alone."""
_NONE_VISIBLE = {"", "-1", "none", "void", "nodevfiles"}


@dataclass(frozen=True, slots=True)
class SystemFolders:
    """The folders in which the kernel shows devices and drivers."""

    dev: Path = Path("/dev")
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")


THIS_SYSTEM = SystemFolders()


def gpu_present(environment: Mapping[str, str], *, system: SystemFolders = THIS_SYSTEM) -> bool:
    """True if there is a GPU that `environment` does not hide from the process."""
    return not hidden(environment) and (_has_node(system.dev) or _has_driver(system.proc) or _on_pci(system.sys))


def hidden(environment: Mapping[str, str]) -> bool:
    """True if the environment says that the process has no GPU: the answer of an operator, so CPU is no fallback."""
    return any(
        environment.get(name, "all").strip().lower() in _NONE_VISIBLE
        for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
    )


def driver_version(*, system: SystemFolders = THIS_SYSTEM) -> str | None:
    """The loaded driver's version; None where no driver is loaded."""
    try:
        text = (system.sys / "module" / "nvidia" / "version").read_text().strip()
        if text:
            return text
    except OSError:
        pass
    try:
        found = re.search(
            r"Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", (system.proc / "driver/nvidia/version").read_text()
        )
    except OSError:
        return None
    return found[1] if found else None


def _has_node(dev: Path) -> bool:
    return any(_NODE.match(path.name) for path in _listed(dev))


def _has_driver(proc: Path) -> bool:
    return bool(_listed(proc / "driver" / "nvidia"))


def _on_pci(sys: Path) -> bool:
    return any(
        _text(device / "vendor") == _NVIDIA and _text(device / "class").startswith(_DISPLAY_CLASS)
        for device in _listed(sys / "bus" / "pci" / "devices")
    )


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text().strip().lower()
    except OSError:
        return ""
