"""The database: one engine, short transactions, and its own clock. SQLite (WAL) or PostgreSQL by URL."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session

from craft.errors import CraftError, Unavailable
from craft_gateway.store.identity import DatabaseFile
from craft_gateway.store.postgresql import STATEMENT_TIMEOUT, connect_with_timeout

_WRITES = "craft_writes"
BUSY_MILLISECONDS = 10_000
_SQLITE_NOW = text("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")
_POSTGRESQL_NOW = text("SELECT clock_timestamp()")
_POSTGRESQL_IDENTITY = text("SELECT oid FROM pg_database WHERE datname = current_database()")
_NO_SUCH_TABLE = "42P01"
"""PostgreSQL's code."""
Clock = Callable[[Session], datetime]
"""The current UTC time as the database sees it: hosts' clocks disagree, and leases must not."""


def database_clock(session: Session) -> datetime:
    """The database's clock, not frozen at the transaction's start."""
    if session.get_bind().dialect.name == "sqlite":
        shown = session.connection().execute(_SQLITE_NOW).scalar_one()
        return datetime.fromisoformat(shown).replace(tzinfo=UTC)
    moment: datetime = session.connection().execute(_POSTGRESQL_NOW).scalar_one()
    return moment.astimezone(UTC)


class Database:
    """Opens transactions. Rows stay readable after the transaction that loaded them."""

    def __init__(self, url: str, *, clock: Clock = database_clock) -> None:
        self.url = url
        path = _sqlite_path(url)
        self._file = None if path is None else DatabaseFile(path)
        self._identity: int | None = None
        self.engine = _engine(url, self._file)
        # An engine over the same connections whose transactions take SQLite's write lock at once.
        self.writer = self.engine.execution_options(**{_WRITES: True})
        self._clock = clock
        self._writing = threading.Lock()

    @property
    def is_sqlite(self) -> bool:
        """True for the local default."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads. It never waits for a writer on SQLite. Raises Unavailable."""
        with _answering(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that writes: commits at the end of the block, rolls back where it raises.

        Raises Unavailable if the database does not answer, or its file was removed or replaced; the commit may then
        have happened or not. Raises RequestInvalid if a caller's value cannot be stored.
        """
        self._check_file()
        with _answering(), self._write_lock(), Session(self.writer, expire_on_commit=False) as session, session.begin():
            yield session
        self._check_file()

    @contextmanager
    def _write_lock(self) -> Iterator[None]:
        """On SQLite, this process's write lock: SQLite itself would only poll every few milliseconds."""
        if not self.is_sqlite:
            yield
            return
        if not self._writing.acquire(timeout=BUSY_MILLISECONDS / 1000):
            raise Unavailable("The database is busy.", hint="Try again in a few seconds.")
        try:
            yield
        finally:
            self._writing.release()

    def check_identity(self) -> None:
        """Raises Unavailable if this is no longer the database that the process has worked on so far.

        SQLite's file was removed or replaced, or PostgreSQL's database was dropped and made again.
        """
        self._check_file()
        if self.is_sqlite:
            return
        with self.read() as session:
            identity: int = session.connection().execute(_POSTGRESQL_IDENTITY).scalar_one()
        if self._identity not in {None, identity}:
            raise Unavailable(
                "The database was dropped and made again while the service runs.",
                hint="Restore a backup, then restart the gateway and the coordinator.",
            )
        self._identity = identity

    def _check_file(self) -> None:
        if self._file is not None:
            self._file.check()

    def now(self, session: Session) -> datetime:
        """The database's current time, UTC."""
        return self._clock(session)

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise Unavailable("The database does not answer just now.", hint="Try again in a few seconds.") from error
    except StatementError as error:
        # A column's type refused the value. SQLAlchemy wraps such an error together with the statement.
        if isinstance(error.orig, CraftError):
            raise error.orig from None
        if getattr(error.orig, "sqlstate", None) == _NO_SUCH_TABLE:
            raise Unavailable(
                "The database has lost its tables.", hint="Restore a backup, then restart the gateway and coordinator."
            ) from error
        raise


def _sqlite_path(url: str) -> Path | None:
    """The file of a SQLite database; None for PostgreSQL, and for a database in memory."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in {None, "", ":memory:"}:
        return None
    return Path(str(parsed.database))


def _engine(url: str, file: DatabaseFile | None) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        server = create_engine(
            _with_driver(url),
            pool_pre_ping=True,
            pool_timeout=10,
            connect_args=STATEMENT_TIMEOUT,
            hide_parameters=True,
        )
        connect_with_timeout(server)
        return server
    if (path := _sqlite_path(url)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_MILLISECONDS / 1000}, hide_parameters=True)
    if file is not None:
        _watch(engine, file)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _watch(engine: Engine, file: DatabaseFile) -> None:
    """Open no further connection where the file is another one: SQLite would make a missing file anew, and empty."""

    def before(dialect: object, record: object, arguments: object, options: object) -> None:  # noqa: ARG001
        file.check()

    def after(connection: object, record: object) -> None:  # noqa: ARG001 - SQLAlchemy's signature
        file.opened()

    event.listen(engine, "do_connect", before)
    event.listen(engine, "connect", after)


def _with_driver(url: str) -> str:
    """`postgresql://` means psycopg 3, whatever SQLAlchemy's own default is."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1).replace("postgres://", "postgresql+psycopg://", 1)


def _prepare_sqlite(connection: Any, record: object) -> None:  # noqa: ARG001 - SQLAlchemy's signature
    # The driver must not begin transactions of its own: `_begin_sqlite` does.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={BUSY_MILLISECONDS}",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # SQLite refuses a deferred transaction that begins to write late; an immediate one waits for the lock.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def lock_key(session: Session, name: str) -> None:
    """Hold a lock of this name until the transaction ends: others who ask for it wait.

    On SQLite a transaction that writes has the whole database for itself already. Take several in sorted order.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.connection().execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})


def lock_keys(session: Session, keys: Iterable[str]) -> None:
    """Keep garbage collection and claims off these keys; sorted, so that two transactions never wait for each other."""
    for key in sorted(keys):
        lock_key(session, key)
