"""One process of the system under test: started, hurt and started again by the harness, never by a supervisor."""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from tests.tokens import ENVIRONMENT

WORKERS = Path(__file__).with_name("workers")
"""Modules that processes under test import, and nothing else."""
_PR_SET_PDEATHSIG = 1
# Loaded now: after a fork beside other threads nothing may be loaded any more.
_LIBC = ctypes.CDLL(None)


class Part:
    """A process with its log. `start` may be called again once it is dead; it dies with the harness."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        logs: Path,
        user: str | None = None,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._environment = dict(environment)
        self._log = logs / f"{name}.log"
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self.spared = True
        """Whether the harness let it live; a death while spared is the process's own doing."""
        self.frozen = False
        """Whether a SIGSTOP holds it."""

    def start(self, **changes: str) -> None:
        """Run it with these further environment variables, its output appended to its log."""
        self.spared = True
        self.frozen = False
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment | changes,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user,
                extra_groups=[] if self._user else None,
                preexec_fn=_die_with_harness,  # noqa: PLW1509 - exec follows at once
            )

    @property
    def pid(self) -> int:
        """Its process id; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether it runs, or is stopped by a signal."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.spared = False
        if self.alive:
            self.send(signal.SIGKILL)
            self._wait(None)

    def terminate(self) -> None:
        """SIGTERM; it may take its time."""
        self.spared = False
        self.send(signal.SIGTERM)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def freeze(self, *, family: bool) -> None:
        """SIGSTOP: it lives, holds its connections and locks, and does nothing; with all that it started, or alone."""
        self.frozen = True
        (self.send_to_family if family else self.send)(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send_to_family(signal.SIGCONT)
        self.frozen = False

    def send_to_family(self, number: signal.Signals) -> None:
        """Send a signal to this process and to all that it started, whatever their groups."""
        for member in [*self.children(), psutil.Process(self.pid)] if self.alive else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(number)

    def children(self) -> list[psutil.Process]:
        """What it started that still runs, with what those started."""
        try:
            return psutil.Process(self.pid).children(recursive=True) if self.alive else []
        except psutil.NoSuchProcess:
            return []

    def stop(self, *, grace_seconds: float) -> None:
        """SIGTERM (after a SIGCONT, in case it is stopped), and SIGKILL after the grace period."""
        self.spared = False
        self.thaw()
        self.send(signal.SIGTERM)
        if not self._wait(grace_seconds):
            self.kill()

    def last_lines(self, count: int = 15) -> str:
        """The end of its log."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-count:])

    def _wait(self, seconds: float | None) -> bool:
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def _die_with_harness() -> None:
    # A harness that is killed must not leave servers behind that hold the ports.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def path_with_workers() -> str:
    """PYTHONPATH with the modules that processes under test import."""
    return os.pathsep.join(filter(None, (str(WORKERS), os.environ.get("PYTHONPATH"))))


def host_environment() -> dict[str, str]:
    """This process's environment with the tokens of tests and no other setting, on one thread for each process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CRAFT_")}
    return kept | ENVIRONMENT | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
