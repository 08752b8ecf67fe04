"""Connections to PostgreSQL that time out when the server no longer answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from psycopg import Connection, OperationalError
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection as SqlConnection
from sqlalchemy import Engine, event

STATEMENT_TIMEOUT = {
    # A server that is cut off must fail a call within seconds, not hang a loop for hours.
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "options": "-c statement_timeout=30s -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s",
}
_ANSWER_SECONDS = 35.0
"""Longer than any statement may take."""
ResultT = TypeVar("ResultT")


class TimedConnection(Connection[Any]):
    """Closes itself where an answer takes too long.

    A frozen server applies none of its own timeouts, and its machine still acknowledges what it receives.
    """

    answer_seconds: float | None = _ANSWER_SECONDS

    def wait(self, gen: PQGen[ResultT], interval: float = 0.1, timeout: float | None = None) -> ResultT:
        """Raises OperationalError if the server does not answer in time."""
        try:
            return super().wait(gen, interval, self.answer_seconds if timeout is None else timeout)
        except OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                # A late answer must not be read as the answer to the next query.
                self.close()
            raise


def connect_with_timeout(engine: Engine) -> None:
    """Make the engine open `TimedConnection`s."""

    def connect(dialect: object, record: object, arguments: Any, options: Any) -> TimedConnection:  # noqa: ARG001
        return TimedConnection.connect(*arguments, **options)

    event.listen(engine, "do_connect", connect)


@contextmanager
def without_statement_timeout(connection: SqlConnection) -> Iterator[None]:
    """A request must not take half a minute; a migration, such as the index of a large table, may take hours."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, TimedConnection):
        yield
        return
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    driver.answer_seconds = None
    try:
        yield
    finally:
        del driver.answer_seconds  # the class's value applies again
