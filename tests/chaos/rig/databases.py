"""The two databases that the system runs on, and the crash of the one that is a server."""

import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import psycopg
from tests.chaos.rig.processes import Part, host_environment

_START_SECONDS = 60.0
_LOCK_SECONDS = 10
"""How long to wait for a lock, which others take in short turns."""
_PROGRAMS = "/usr/lib/postgresql"


Unlock = Callable[[], None]


class DatabaseServer(Protocol):
    """Where the truth is kept."""

    @property
    def url(self) -> str: ...
    @property
    def can_crash(self) -> bool: ...
    def start(self) -> None: ...
    def crash(self, rng: random.Random) -> str: ...
    def lock(self) -> Unlock: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def stop(self) -> None: ...


class SqliteFile:
    """No server: it crashes with the processes that use it."""

    can_crash = False

    def __init__(self, folder: Path) -> None:
        self._path = folder / "craft.db"
        self.url = f"sqlite:///{self._path}"

    def start(self) -> None:
        """Nothing to start."""

    def crash(self, rng: random.Random) -> str:
        """There is nothing that could."""
        raise NotImplementedError("SQLite has no server.")

    def lock(self) -> Unlock:
        """Nobody else can write until the returned function is called, as during a backup or a migration."""
        connection = sqlite3.connect(self._path, timeout=_LOCK_SECONDS, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            connection.close()
            raise
        return connection.close

    def freeze(self) -> None:
        """There is nothing that could be."""
        raise NotImplementedError("SQLite has no server.")

    def thaw(self) -> None:
        """Nothing was frozen."""

    def stop(self) -> None:
        """Nothing to stop."""


class PostgresServer:
    """A throw-away PostgreSQL, owned by the harness so that it can be crashed. Raises FileNotFoundError without one."""

    can_crash = True

    def __init__(self, folder: Path, *, root: bool, logs: Path) -> None:
        programs = _programs()
        self._port = _free_port()
        # PostgreSQL refuses to run as root.
        user = "nobody" if root else None
        folder.mkdir()
        if user:
            shutil.chown(folder, user)
        as_user = {"user": user, "extra_groups": []} if user else {}
        command = [str(programs / "initdb"), "-D", str(folder / "data"), "-U", "craft", "-A", "trust"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", **as_user)  # type: ignore[call-overload]
        settings = ["-c", "listen_addresses=127.0.0.1", "-k", str(folder)]
        self.part = Part(
            "postgresql",
            [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(self._port), *settings],
            environment=host_environment(),
            logs=logs,
            user=user,
        )
        self.url = f"postgresql+psycopg://craft@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it, after a crash too, and return when it answers."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL does not answer:\n{self.part.last_lines()}")
            if not self.part.alive:
                # Until the last of a killed postmaster's processes is gone, a new one refuses to start.
                self.part.start()
            time.sleep(0.1)

    def crash(self, rng: random.Random) -> str:
        """SIGKILL of the postmaster, or its immediate stop: both end every transaction and need a recovery."""
        number = rng.choice([signal.SIGKILL, signal.SIGQUIT])
        if number is signal.SIGKILL:
            self.part.kill()
        else:
            self.part.send(number)
        return f"postmaster {number.name}"

    def lock(self) -> Unlock:
        """Nobody else can write jobs and stages until the returned function is called, as during a migration."""
        connection = self._connect()
        try:
            connection.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'")
            connection.execute("LOCK TABLE job, stage IN SHARE ROW EXCLUSIVE MODE")
        except psycopg.Error:
            connection.close()
            raise
        return connection.close

    def freeze(self) -> None:
        """SIGSTOP of all its processes: connections stay open, their bytes are taken in, and nothing answers."""
        # The postmaster first, so that it starts none while the others are being stopped.
        self.part.freeze(family=False)
        self.part.freeze(family=True)

    def thaw(self) -> None:
        """SIGCONT of all its processes."""
        self.part.thaw()

    def stop(self) -> None:
        """End it; nothing is kept."""
        self.part.send(signal.SIGQUIT)
        self.part.stop(grace_seconds=10)

    def _answers(self) -> bool:
        try:
            with self._connect():
                return True
        except psycopg.Error:
            return False

    def _connect(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(host="127.0.0.1", port=self._port, user="craft", dbname="postgres", connect_timeout=2)


def _programs() -> Path:
    found = sorted(Path(_PROGRAMS).glob("*/bin"), key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed. On Debian or Ubuntu: apt install postgresql")
    return found[-1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
