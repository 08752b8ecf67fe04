"""`python -m craft.infra.device.self_test PARENT_PID SETTING`: tries the first visible GPU and prints a `DeviceReport`.

It is a process of its own: a driver that hangs or crashes does so here, and a worker stays without torch and CUDA.
"""

import os
import sys
from collections.abc import Callable

import torch

from craft.errors import CraftError, DeviceFailed, GpuOutOfMemory
from craft.infra.device.choice import chosen_device
from craft.infra.device.cuda import cuda_state, multiplies_bfloat16
from craft.infra.device.presence import driver_version
from craft.infra.device.report import DeviceReport
from craft.infra.process.error_mapping import error_of
from craft.infra.process.parent_death import die_with_parent

_SHAPE = (256, 1024, 512)
"""Rows, inner size and columns of the product: large enough for the kernels that models use."""
_SEED = 20_240_229
_LARGEST_ERROR = 0.02
"""Of the largest value. Bfloat16 has 8 bits, so a right product is off by 0.004 at most."""


def main(arguments: list[str]) -> None:
    """Test, and print the report as the last line of standard output."""
    parent, setting = arguments
    die_with_parent(int(parent))
    print(device_report(setting=setting).model_dump_json())  # noqa: T201 - the program's result


def device_report(*, setting: str) -> DeviceReport:
    """The report on the first visible GPU; `setting` names the variable that chooses the device."""
    report = DeviceReport(driver=driver_version(), cuda=torch.version.cuda, torch=torch.__version__)
    try:
        chosen_device("cuda", cuda_state(), os.environ, setting=setting)
        report = report.model_copy(
            update={"devices": torch.cuda.device_count(), "name": torch.cuda.get_device_name(0)},
        )
        free, total = torch.cuda.mem_get_info(0)
        report = report.model_copy(update={"free_bytes": free, "total_bytes": total})
        check_product(_product_on_device)
    except Exception as error:  # top level of the program: whatever the device does, it is the result
        return report.model_copy(update={"failure": _failure(error_of(error))})
    return report


def check_product(multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """Compare a product of two bfloat16 matrices with the CPU's. Raises DeviceFailed where it is another."""
    rows, inner, columns = _SHAPE
    generator = torch.Generator().manual_seed(_SEED)
    left = torch.randn(rows, inner, generator=generator).bfloat16()
    right = torch.randn(inner, columns, generator=generator).bfloat16()
    wanted = left.float() @ right.float()
    difference = (multiply(left, right).float() - wanted).abs().max() / wanted.abs().max()
    # Not the other way round: a NaN is no small difference.
    if not difference.item() <= _LARGEST_ERROR:
        raise DeviceFailed(f"The device multiplies wrongly: a product is off by {difference.item():.3g} of its range.")


def _product_on_device(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    dtype = torch.bfloat16 if multiplies_bfloat16("cuda") else torch.float32
    product = left.to("cuda", dtype) @ right.to("cuda", dtype)
    torch.cuda.synchronize()
    return product.cpu()


def _failure(error: CraftError) -> str | None:
    # Another process that holds all memory is no fault of the device: it gives way before a stage begins.
    if isinstance(error, GpuOutOfMemory):
        return None
    return f"{error.message} {error.hint or ''}".strip()


if __name__ == "__main__":
    main(sys.argv[1:])
