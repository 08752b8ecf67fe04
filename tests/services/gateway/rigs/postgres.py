"""The PostgreSQL of the gateway's tests, and waits for its locks. CRAFT_TEST_POSTGRES_URL names a database."""

import os
import threading
import time
from concurrent.futures import Future
from typing import TypeVar

import pytest
from sqlalchemy import Connection, event

from craft_gateway.store.database import Database

URL = os.environ.get("CRAFT_TEST_POSTGRES_URL", "")
ON_POSTGRESQL = [pytest.mark.servers, pytest.mark.skipif(not URL, reason="CRAFT_TEST_POSTGRES_URL is not set")]
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
ResultT = TypeVar("ResultT")
_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.01


def until_it_waits_or_ends(database: Database, call: Future[ResultT]) -> None:
    """Return once another thread's call waits for a lock, or has ended. Raises TimeoutError."""
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    pause = threading.Event()
    while not call.done():
        with database.read() as session:
            if session.connection().exec_driver_sql(_WAITING).scalar_one():
                return
        if time.monotonic() > deadline:
            raise TimeoutError("The call neither waits for a lock nor ends.")
        pause.wait(_POLL_SECONDS)


def fail_lock_waits(database: Database) -> None:
    """Make every later transaction fail with Unavailable where it has to wait for a lock."""

    def set_lock_timeout(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")

    event.listen(database.engine, "begin", set_lock_timeout)
