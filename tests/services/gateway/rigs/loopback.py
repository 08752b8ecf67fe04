"""Serves an application on a real socket of this machine, for clients and faults that need one."""

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

Closing = Callable[[], Awaitable[None]]


class _Server(uvicorn.Server):
    """Sets an event when it serves, so that no test has to poll."""

    def __init__(self, config: uvicorn.Config, closing: Closing) -> None:
        super().__init__(config)
        self.serving = threading.Event()
        self._closing = closing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self._closing()


async def _nothing() -> None:
    """Close nothing."""


@contextmanager
def served(app: ASGIApp, *, closing: Closing = _nothing, port: int = 0) -> Iterator[str]:
    """Serve the application for as long as the block lasts, and yield its base URL.

    `closing` runs at the end, on the server's loop.
    """
    with socket.create_server(("127.0.0.1", port)) as listener:
        server = _Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=2), closing)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert server.serving.wait(20)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
