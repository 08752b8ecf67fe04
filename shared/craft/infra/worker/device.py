"""Taking turns on one processor: workers of several services on one machine compute one at a time.

Two processes that both use all cores are not half as fast each but an eighth: their threads spin at barriers that the
other one's threads hold up. On one GPU they would run out of memory instead.
"""

import fcntl
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

import httpx
from pydantic import SecretStr

from craft.errors import Unavailable

_LOOK_SECONDS = 0.05
_RELEASE_SECONDS = 120.0
_log = logging.getLogger("craft.worker")
DeviceLock = Callable[[threading.Event], AbstractContextManager[bool]]
"""Given what says "stop waiting": a context whose value is whether the turn was had."""


def device_lock(path: Path) -> DeviceLock:
    """Turns by a lock on this file; the kernel frees it with the process that holds it, however that ends."""

    @contextmanager
    def turn(stopping: threading.Event) -> Iterator[bool]:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            while not stopping.is_set():
                if _locked(file):
                    yield True
                    return
                stopping.wait(_LOOK_SECONDS)
            yield False

    return turn


@contextmanager
def acquire_device_if_free(path: Path) -> Iterator[bool]:
    """A turn where nobody has it just now, without waiting; the value says whether it was had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        yield _locked(file)


def _locked(file: IO[str]) -> bool:
    """Whether the lock was free, and is ours from now on until the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def no_memory_to_release() -> None:
    """Nobody keeps memory that this service needs."""


def release_device(model_server_url: str, token: SecretStr) -> None:
    """Have the model server stop vLLM, and wait until its memory is free. Where none listens, none holds any.

    Raises Unavailable where one listens and does not do it: whoever computed now would run out of memory.
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


@contextmanager
def no_device_lock(stopping: threading.Event) -> Iterator[bool]:
    """A processor of one's own."""
    yield not stopping.is_set()
