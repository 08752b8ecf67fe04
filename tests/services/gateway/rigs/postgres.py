"""The PostgreSQL of the gateway's tests, and who waits for whom there. CRAFT_TEST_POSTGRES_URL names a database."""

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
_PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.01


def until_it_waits_or_ends(database: Database, doing: Future[ResultT]) -> None:
    """Returns once what another thread does waits for a lock, or is done. Raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    pause = threading.Event()
    while not doing.done():
        with database.read() as session:
            if session.connection().exec_driver_sql(_WAITING).scalar_one():
                return
        if time.monotonic() > deadline:
            raise TimeoutError("It neither waits for a lock nor ends.")
        pause.wait(_LOOK_SECONDS)


def let_nobody_wait(database: Database) -> None:
    """From now on a transaction that has to wait for a lock fails: Unavailable."""

    def impatient(connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")

    event.listen(database.engine, "begin", impatient)
