"""The machine itself: versions, a device that computes, and its memory."""

import os
import platform
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch
from tests.gpu.rig.checks import Bench, Check, Measured

from craft.infra.device.cuda import multiplies_bfloat16
from craft.infra.device.presence import THIS_SYSTEM, SystemFolders, driver_version, gpu_present
from craft.infra.device.self_test import device_report

_LIBRARIES = ("torch", "transformers", "peft", "trl")
_SETTING = "CRAFT_TRAINING__DEVICE"
_MAX_DIFFERENCE = 2e-2
_SIDE = 1024


def checks(bench: Bench) -> Sequence[Check]:
    """Versions first, so that a broken machine still says what it is."""
    return (
        Check("versions", "torch, transformers and peft are here", versions),
        Check("device", "torch uses the GPU that the machine has", partial(device, bench)),
        Check("memory", "free memory can be read", partial(memory, bench)),
        Check("self-test of a worker", "no failure", partial(self_test, bench)),
        Check("bfloat16 product against float32 on the CPU", f"relative <= {_MAX_DIFFERENCE}", partial(product, bench)),
    )


def versions() -> Measured:
    """The versions of the libraries, CUDA and the driver."""
    found = {name: _version(name) for name in _LIBRARIES}
    words = [f"{name} {value or 'absent'}" for name, value in found.items()]
    words += [
        f"python {platform.python_version()}",
        f"CUDA {torch.version.cuda or 'none'}",
        f"driver {driver_version() or 'none'}",
    ]
    return Measured(", ".join(words), holds=all(found[name] for name in _LIBRARIES[:3]))


def device(bench: Bench, *, system: SystemFolders = THIS_SYSTEM) -> Measured:
    """The device's name. A GPU that torch does not see would be replaced by the CPU without a word."""
    if not bench.on_gpu:
        if gpu_present(os.environ, system=system):
            return Measured(f"torch {torch.__version__} sees no GPU, but one is here", holds=False)
        return Measured("CPU, no GPU here", holds=True)
    properties = torch.cuda.get_device_properties(0)
    major, minor = torch.cuda.get_device_capability(0)
    return Measured(
        f"{torch.cuda.device_count()} x {properties.name}, capability {major}.{minor}, "
        f"{properties.total_memory / 2**30:.1f} GiB",
        holds=True,
    )


def memory(bench: Bench) -> Measured:
    """The device's free memory."""
    if not bench.on_gpu:
        return Measured("no device memory on a CPU", holds=None)
    free, total = torch.cuda.mem_get_info()
    return Measured(f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free", holds=0 < free <= total)


def self_test(bench: Bench) -> Measured:
    """The test that keeps a worker from its first stage, and that bfloat16 is the device's own."""
    if not bench.on_gpu:
        return Measured("no device to test on a CPU", holds=None)
    report = device_report(setting=_SETTING)
    native = multiplies_bfloat16("cuda")
    words = report.failure or f"{report.title}, {'multiplies' if native else 'does not multiply'} bfloat16"
    return Measured(words, holds=report.failure is None and native)


def product(bench: Bench) -> Measured:
    """A matrix product in bfloat16 on the device against float32 on the CPU, as a relative difference of norms."""
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(_SIDE, _SIDE, generator=generator).bfloat16() for _ in range(2))
    expected = left.float() @ right.float()
    got = (left.to(bench.device) @ right.to(bench.device)).float().cpu()
    difference = ((got - expected).norm() / expected.norm()).item()
    return Measured(f"{difference:.1e}", holds=difference <= _MAX_DIFFERENCE)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
