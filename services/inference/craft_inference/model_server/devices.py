"""The GPUs of a vLLM server: their number, what it sees of them, and their self-test."""

import asyncio
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from fastapi import APIRouter, Depends
from pydantic import SecretStr

import craft
from craft.errors import DeviceFailed, Unauthenticated
from craft.infra.device.choice import WantedDevice, expected_device
from craft.infra.device.pinning import pinned
from craft.infra.device.report import DeviceReport
from craft.infra.http.bearer import bearer_check
from craft.infra.http.openapi import documented
from craft.infra.settings.inference import InferenceSettings, VllmSettings
from craft.infra.worker.device_gate import self_test

_PACKAGE_FOLDERS = {"site-packages", "dist-packages"}
_PARALLEL = {
    **dict.fromkeys(("--tensor-parallel-size", "-tp"), "tensor"),
    **dict.fromkeys(("--pipeline-parallel-size", "-pp"), "pipeline"),
    **dict.fromkeys(("--data-parallel-size", "-dp"), "data"),
    **dict.fromkeys(("--prefill-context-parallel-size", "-pcp"), "prefill"),
}
"""Options by which a server computes on more than one GPU; their numbers multiply."""


def on_cpu(device: WantedDevice) -> bool:
    """True if vLLM runs on CPU here; `auto` means the GPU where the machine has one, whether or not it works."""
    return expected_device(device, os.environ) == "cpu"


def shown_devices(settings: InferenceSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which the server sees its GPUs and no others. Raises DeviceFailed where it shows fewer."""
    count = devices_wanted(settings.vllm)
    return pinned(environment, index=settings.device_index, count=count, setting="CRAFT_INFERENCE__DEVICE_INDEX")


def devices_wanted(vllm: VllmSettings) -> int:
    """The number of GPUs that the server computes on."""
    counts = {"tensor": vllm.tensor_parallel_size}
    for option, value in _options(vllm.extra_arguments):
        if (kind := _PARALLEL.get(option)) is not None and value.isdecimal():
            counts[kind] = int(value)
    return math.prod(counts.values())


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option with its value, written as one word with `=` or as two."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word.startswith("-"):
            option, given, value = word.partition("=")
            yield option, value if given else following


def device_router(test: Callable[[], DeviceReport], *, runs: Callable[[], bool], token: SecretStr) -> APIRouter:
    """The route `GET /v1/device`; a call needs the workers' bearer token. `runs` tells if vLLM runs."""
    routes = APIRouter(prefix="/v1", tags=["model server"], dependencies=[Depends(bearer_check(token))])
    testing = asyncio.Lock()

    @routes.get("/device", operation_id="testDevice", responses=documented(Unauthenticated))
    async def device() -> DeviceReport:
        """The device that vLLM uses. It is tested while vLLM does not run, since a server that runs has passed."""
        async with testing:
            if runs():
                return DeviceReport()
            return await asyncio.to_thread(_report, test)

    return routes


def device_test(settings: InferenceSettings) -> DeviceReport:
    """The report of the self-test in vLLM's environment. Raises DeviceFailed.

    It tells nothing where vLLM computes on the CPU or elsewhere, and where its environment cannot import our test.
    """
    python = str(settings.vllm.python or sys.executable)
    root = _source_root()
    if settings.vllm.url is not None or on_cpu(settings.device):
        return DeviceReport()
    environment = shown_devices(settings, os.environ)
    if python != sys.executable:
        if root.name in _PACKAGE_FOLDERS:
            # Our own packages would take the place of vLLM's.
            return DeviceReport()
        environment["PYTHONPATH"] = str(root)
    return self_test(environment, setting="CRAFT_INFERENCE__DEVICE", python=python)


def _source_root() -> Path:
    """The folder that has the package `craft`."""
    return Path(str(craft.__file__)).parents[1]


def _report(test: Callable[[], DeviceReport]) -> DeviceReport:
    try:
        return test()
    except DeviceFailed as error:
        return DeviceReport(failure=error.message)
