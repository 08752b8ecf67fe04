"""Runs the public API as a process over a rig's state folder, which tests kill and start again."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from tests.chaos.rig.processes import Part, host_environment
from tests.ports import free_ports

START_SECONDS = 60.0
POLL_SECONDS = 0.05


class GatewayProcess:
    """A gateway whose base URL stays the same over restarts."""

    def __init__(self, state: Path, **settings: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        own = {"CRAFT_STATE_DIR": str(state), "CRAFT_GATEWAY__PORT": str(port), **settings}
        command = [sys.executable, "-m", "craft_gateway.api"]
        self.part = Part("gateway", command, environment=host_environment() | own, logs=state)

    def start(self) -> None:
        """Start the process and return when it answers."""
        self.part.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, self.part.last_lines()
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz").is_success
        except httpx.TransportError:
            return False


@contextmanager
def gateway_process(state: Path, **settings: str) -> Iterator[GatewayProcess]:
    """Run a gateway for as long as the block lasts."""
    gateway = GatewayProcess(state, **settings)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.part.kill()
