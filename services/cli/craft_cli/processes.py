"""One supervised process of the local stack: its start, its restart after a death, its stop and its log file."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from craft.infra.process.parent_death import die_with_parent

_RESTART_PAUSES_SECONDS = (0.0, 1.0, 5.0, 15.0)
_HEALTHY_SECONDS = 60.0
"""A process that ran for this long did not die of its start: the next pause is the first one again."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to run. `name` is also the name of its log file."""

    name: str
    command: Sequence[str]

    @classmethod
    def module(cls, name: str, module: str) -> "ProcessSpec":
        """A Python module that this interpreter runs."""
        return cls(name, [sys.executable, "-m", module])


class SupervisedProcess:
    """A process that is restarted when it dies: each time after a longer pause, while it dies soon each time."""

    def __init__(
        self,
        spec: ProcessSpec,
        *,
        environment: Mapping[str, str],
        logs: Path,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self._environment = dict(environment)
        self._log_path = logs / f"{spec.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._monotonic = monotonic
        self._early_deaths = 0
        self._started_at = 0.0
        self._restart_at: float | None = None

    def start(self) -> None:
        """Start the process; its output is appended to its log file."""
        with self._log_path.open("ab") as log:
            self._process = self._spawn(log)
        self._started_at = self._monotonic()

    def restart_if_dead(self) -> bool:
        """Restart a dead process after its pause. True if it has died since the last call."""
        if self._process is None or self._process.poll() is None:
            return False
        now = self._monotonic()
        if self._restart_at is None:
            if now - self._started_at >= _HEALTHY_SECONDS:
                self._early_deaths = 0
            pause = _RESTART_PAUSES_SECONDS[min(self._early_deaths, len(_RESTART_PAUSES_SECONDS) - 1)]
            self._early_deaths += 1
            self._restart_at = now + pause
            return True
        if now >= self._restart_at:
            self._restart_at = None
            self.start()
        return False

    @property
    def waits(self) -> bool:
        """True while the process is dead and its pause is not over."""
        return self._restart_at is not None

    def stop(self, *, grace_seconds: float) -> None:
        """Send SIGTERM, and after the grace period SIGKILL to the process group."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def last_lines(self, count: int = 12) -> str:
        """The last lines of its log."""
        if not self._log_path.exists():
            return ""
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-count:])

    def _spawn(self, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        # A killed supervisor must not leave servers behind that occupy the ports.
        end_with_supervisor = functools.partial(die_with_parent, os.getpid(), death_signal=signal.SIGTERM)
        return subprocess.Popen(  # noqa: S603 - our own modules and the bundled server, no input from outside
            self.spec.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self._environment,
            # The supervisor itself handles Ctrl-C, and stops the processes in the right order.
            start_new_session=True,
            preexec_fn=end_with_supervisor,  # noqa: PLW1509 - only one thread runs here, and exec follows at once
        )
