"""An application behind a real server and a real socket, in this process."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from tests.ports import free_ports

from craft.infra.http.server.connections import Patience, Places
from craft.infra.http.server.serve import server_options


@contextmanager
def served(app: ASGIApp, *, places: Places | None = None, patience: Patience | None = None) -> Iterator[int]:
    """Serve the application inside the block; the value is its port."""
    (port,) = free_ports(1)
    options = server_options(Places(most=1000, most_per_peer=1000) if places is None else places, patience)
    server = uvicorn.Server(uvicorn.Config(app, port=port, timeout_graceful_shutdown=1, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    until = time.monotonic() + 10
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    yield port
    server.should_exit = True
    thread.join(10)
