"""The lock on a device that several workers of one machine share: they compute one at a time.

Two processes that both use all cores each run at an eighth of the speed and not at half of it: their threads spin at
barriers where they wait for the other process's threads. On one GPU they would run out of memory instead.
"""

import fcntl
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

import httpx
from pydantic import SecretStr, ValidationError

from craft.errors import DeviceFailed, Unavailable
from craft.infra.device.report import DeviceReport

_LOOK_SECONDS = 0.05
_RELEASE_SECONDS = 120.0
_DEVICE_TEST_SECONDS = 240.0
"""Longer than a self-test may take."""
_log = logging.getLogger("craft.worker")
DeviceLock = Callable[[threading.Event], AbstractContextManager[bool]]
"""Waits for the device until the event is set. The context's value says whether the lock was acquired."""


def device_lock(path: Path) -> DeviceLock:
    """A lock on this file. The kernel releases it when its process ends, however that ends."""

    @contextmanager
    def acquire(stopping: threading.Event) -> Iterator[bool]:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            while not stopping.is_set():
                if _locked(file):
                    yield True
                    return
                stopping.wait(_LOOK_SECONDS)
            yield False

    return acquire


@contextmanager
def acquire_device_if_free(path: Path) -> Iterator[bool]:
    """Acquire the lock if it is free, without waiting. The value says whether it was acquired."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        yield _locked(file)


def _locked(file: IO[str]) -> bool:
    """Try to lock the file until it is closed. False if another process has the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def no_memory_to_release() -> None:
    """Do nothing: no other process occupies memory that this service needs."""


def release_device(model_server_url: str, token: SecretStr) -> None:
    """Have the model server stop vLLM, and wait until its memory is free. No server means that no memory is taken.

    Raises Unavailable if a server answers but does not stop vLLM: a stage that started now would run out of memory.
    """
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
    timeout = httpx.Timeout(_RELEASE_SECONDS, connect=5.0)
    try:
        httpx.post(f"{model_server_url}/v1/release", headers=headers, timeout=timeout).raise_for_status()
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        _log.warning("no_model_server", extra={"detail": str(error) or type(error).__name__})
    except httpx.HTTPError as error:
        raise Unavailable(
            f"The model server did not give up the device: {error or type(error).__name__}.",
            hint="Set the same CRAFT_MODEL_SERVER_TOKEN in both, and see the model server's log.",
        ) from error


def model_servers_device(model_server_url: str, token: SecretStr) -> DeviceReport:
    """The report on vLLM's device, which the model server tests where vLLM does not run.

    Raises DeviceFailed where it is not well. A server that does not answer, or that knows no such call, tells nothing.
    """
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
    timeout = httpx.Timeout(_DEVICE_TEST_SECONDS, connect=5.0)
    try:
        answer = httpx.get(f"{model_server_url}/v1/device", headers=headers, timeout=timeout).raise_for_status()
        report = DeviceReport.model_validate_json(answer.content)
    except (httpx.HTTPError, ValidationError) as error:
        _log.warning("device_not_tested", extra={"detail": str(error) or type(error).__name__})
        return DeviceReport()
    if report.failure is not None:
        raise DeviceFailed(report.failure)
    return report


@contextmanager
def no_device_lock(stopping: threading.Event) -> Iterator[bool]:
    """The lock of a device that no other worker shares: always free."""
    yield not stopping.is_set()
