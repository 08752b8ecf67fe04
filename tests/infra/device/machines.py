"""Machines as their kernels show them: folders in the places of /dev, /proc and /sys."""

from pathlib import Path

from craft.infra.device.presence import SystemFolders


def machine(
    folder: Path, *, nodes: tuple[str, ...] = (), driver: str | None = None, pci: tuple[tuple[str, str], ...] = ()
) -> SystemFolders:
    """A machine with these device files, this driver's version, and PCI devices by vendor and class."""
    system = SystemFolders(folder / "dev", folder / "proc", folder / "sys")
    for root in (system.dev, system.proc, system.sys):
        root.mkdir(parents=True)
    for node in ("null", "tty0", *nodes):
        (system.dev / node).touch()
    if driver is not None:
        (system.proc / "driver" / "nvidia").mkdir(parents=True)
        line = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {driver}  Release Build"
        (system.proc / "driver" / "nvidia" / "version").write_text(line)
    for number, (vendor, kind) in enumerate(pci):
        device = system.sys / "bus" / "pci" / "devices" / f"0000:0{number}:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    return system
