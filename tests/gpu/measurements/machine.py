"""The machine itself: versions, a device that computes, and its memory."""

import platform
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from tests.gpu.rig.checks import Bench, Check, Measured

_LIBRARIES = ("torch", "transformers", "peft", "trl")
_DRIVER = Path("/proc/driver/nvidia/version")
_TRACES = (Path("/dev/nvidiactl"), _DRIVER)
_MAX_DIFFERENCE = 2e-2
_SIDE = 1024


def checks(bench: Bench) -> Sequence[Check]:
    """Versions first, so that a broken machine still says what it is."""
    return (
        Check("versions", "torch, transformers and peft are here", versions),
        Check("device", "torch uses the GPU that the machine has", partial(device, bench)),
        Check("memory", "free memory can be read", partial(memory, bench)),
        Check("bfloat16 product against float32 on the CPU", f"relative <= {_MAX_DIFFERENCE}", partial(product, bench)),
    )


def versions() -> Measured:
    """The versions of the libraries, CUDA and the driver."""
    found = {name: _version(name) for name in _LIBRARIES}
    words = [f"{name} {value or 'absent'}" for name, value in found.items()]
    driver = _DRIVER.read_text().split("Kernel Module")[-1].split()[0] if _DRIVER.exists() else "none"
    words += [f"python {platform.python_version()}", f"CUDA {torch.version.cuda or 'none'}", f"driver {driver}"]
    return Measured(", ".join(words), holds=all(found[name] for name in _LIBRARIES[:3]))


def device(bench: Bench) -> Measured:
    """The device's name. A GPU that torch does not see would be replaced by the CPU without a word."""
    if not bench.on_gpu:
        present = [str(trace) for trace in _TRACES if trace.exists()]
        words = f"torch {torch.__version__} sees no GPU, but {present[0]} exists" if present else "CPU, no GPU here"
        return Measured(words, holds=not present)
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
