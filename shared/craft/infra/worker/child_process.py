"""One child process, seen from its worker: its requests, messages, log lines and end."""

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from pydantic import ValidationError

from craft.contracts.stages.claims import StageProgress
from craft.contracts.stages.parameters import StageParameters
from craft.infra.process.memory import held_memory_bytes
from craft.infra.stage.channel import CHILD_MESSAGE, Channel, Failed, Finished, Progressed, RunStage

_MAX_LINE_LENGTH = 4000
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
_LOG_WAIT_SECONDS = 2.0
_REMINDER_SECONDS = 0.25
_MEMORY_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class StageWork:
    """One stage for a child to run. All paths exist."""

    parameters: StageParameters
    inputs: Mapping[str, Path]
    output: Path
    checkpoint: Path


@dataclass(frozen=True, slots=True)
class Died:
    """The process ended without an answer. One of `exit_signal` and `exit_code` is given."""

    exit_signal: int | None
    exit_code: int | None
    peak_memory_bytes: int
    memory_limit_bytes: int | None = None
    """The limit, if the process was killed because it held more."""


ChildOutcome = Finished | Failed | Died


class StageListener(Protocol):
    """Receives the events of a stage. The supervisor's threads call it."""

    def on_progress(self, progress: StageProgress) -> None:
        """Receive the latest progress."""
        ...

    def on_log(self, line: str) -> None:
        """Receive one line that the stage printed: without control characters, at most 4,000 characters long."""
        ...

    def on_outcome(self, outcome: ChildOutcome) -> None:
        """Receive the stage's end. Called once, also after a kill; no other call follows."""
        ...


class ChildProcess:
    """One child process and the threads that watch it. Raises OSError if it cannot be started.

    `memory_bytes` is the most that it and its own processes may hold; it is killed above. None: without limit.
    """

    def __init__(self, functions_path: str, memory_bytes: int | None, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        try:
            with theirs, os.fdopen(lifeline, "rb"):
                self._popen = _popen(functions_path, theirs.fileno(), lifeline, environment)
        except OSError:
            ours.close()
            os.close(self._lifeline)
            raise
        self.pid = self._popen.pid
        self._channel = Channel(ours)
        self._lock = threading.Lock()
        self._listener: StageListener | None = None
        self._log_end = ""
        self._log_ended = threading.Event()
        self._gone = threading.Event()
        self._memory_bytes = memory_bytes
        self._held_too_much = False
        self._log_thread = threading.Thread(target=self._read_log, name="child-log", daemon=True)
        self._log_thread.start()
        threading.Thread(target=self._read_messages, name="child-messages", daemon=True).start()
        threading.Thread(target=self._await_end, name="child-end", daemon=True).start()
        if memory_bytes is not None:
            threading.Thread(target=self._watch_memory, args=(memory_bytes,), name="child-memory", daemon=True).start()

    @property
    def alive(self) -> bool:
        """True if the process runs."""
        return not self._gone.is_set()

    def begin(self, work: StageWork, listener: StageListener) -> None:
        """Run this stage. No other stage may be running."""
        with self._lock:
            self._listener = listener
            self._log_end = f"end of stage {secrets.token_hex(16)}"
            self._log_ended.clear()
        try:
            self._channel.send(
                RunStage(
                    parameters=work.parameters,
                    inputs={role: str(path) for role, path in work.inputs.items()},
                    output=str(work.output),
                    checkpoint=str(work.checkpoint),
                    log_end=self._log_end,
                )
            )
        except OSError:
            # The child is dying; the thread that awaits its end tells the listener.
            self._signal(signal.SIGKILL)

    def end(self, grace_seconds: float) -> None:
        """Send SIGTERM to the group, and SIGKILL after the grace period. Returns when the process is gone."""
        if grace_seconds > 0:
            self._signal(signal.SIGTERM)
            self._await(grace_seconds)
        self._signal(signal.SIGKILL)
        self._gone.wait()

    def _await(self, seconds: float) -> None:
        """Wait until the process is gone, and repeat SIGTERM meanwhile.

        Python handles a signal when its main thread wakes up; a signal that arrives just before the thread starts to
        wait would be handled late.
        """
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._gone.wait(min(left, _REMINDER_SECONDS)):
            with self._lock, contextlib.suppress(ProcessLookupError):
                if not self._gone.is_set():
                    os.kill(self.pid, signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            # After it is reaped, its number may belong to another process.
            if not self._gone.is_set():
                _signal_group(self.pid, number)

    def _watch_memory(self, most: int) -> None:
        # A limit of the kernel on the address space would stop CUDA, which reserves far more than it holds.
        while not self._gone.wait(_MEMORY_PAUSE_SECONDS):
            # A program that is being started shares all pages of the child for a moment.
            if held_memory_bytes(self.pid) > most and held_memory_bytes(self.pid, shared_once=True) > most:
                self._held_too_much = True
                self._signal(signal.SIGKILL)
                return

    def _read_log(self) -> None:
        assert self._popen.stdout is not None  # noqa: S101 - a pipe was asked for
        for line in _lines(self._popen.stdout):
            if line and line == self._log_end:
                self._log_ended.set()
            elif line and (listener := self._listener):
                listener.on_log(line)

    def _read_messages(self) -> None:
        while frame := self._channel.receive():
            try:
                message = CHILD_MESSAGE.validate_json(frame)
            except ValidationError:
                break
            if isinstance(message, Progressed):
                if listener := self._listener:
                    listener.on_progress(message.progress)
            else:
                # Another thread reads the log. Wait for it, so that no line is lost or counted for the next stage.
                self._log_ended.wait(_LOG_WAIT_SECONDS)
                self._deliver(message)
        self._signal(signal.SIGKILL)

    def _await_end(self) -> None:
        # WNOWAIT does not reap: while the child is a zombie, no other process can get its group's number.
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            _signal_group(self.pid, signal.SIGKILL)
            _, status, usage = os.wait4(self.pid, 0)
            self._gone.set()
        os.close(self._lifeline)
        _reap_orphans(self.pid)
        code = self._popen.returncode = os.waitstatus_to_exitcode(status)
        self._log_thread.join(_LOG_WAIT_SECONDS)
        self._channel.close()
        if not self._log_thread.is_alive() and self._popen.stdout:
            self._popen.stdout.close()
        self._deliver(
            Died(
                exit_signal=-code if code < 0 else None,
                exit_code=code if code >= 0 else None,
                peak_memory_bytes=usage.ru_maxrss * (1024 if sys.platform == "linux" else 1),
                memory_limit_bytes=self._memory_bytes if self._held_too_much else None,
            )
        )

    def _deliver(self, outcome: ChildOutcome) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.on_outcome(outcome)


def _popen(
    functions_path: str, channel: int, lifeline: int, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes]":
    arguments = [functions_path, *map(str, (os.getpid(), channel, lifeline))]
    return subprocess.Popen(  # noqa: S603 - our own module; the path comes from our own code
        [sys.executable, "-u", "-m", "craft.infra.stage.child", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(channel, lifeline),
        start_new_session=True,
        env=environment,
    )


def _reap_orphans(group: int) -> None:
    """Reap the group's killed processes: where this process is a container's first one, it inherits their zombies."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-group, 0)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _lines(pipe: IO[bytes]) -> Iterator[str]:
    """Lines as they arrive. A carriage return, as progress bars print it, also ends a line; overlong lines are cut."""
    rest = b""
    while block := pipe.read1(65536) if hasattr(pipe, "read1") else pipe.read(65536):
        *whole, rest = re.split(rb"[\r\n]+", rest + block)
        for line in whole:
            yield _CONTROL.sub("", line[: _MAX_LINE_LENGTH * 4].decode("utf-8", "replace"))[:_MAX_LINE_LENGTH]
        if len(rest) > _MAX_LINE_LENGTH * 4:
            yield _CONTROL.sub("", rest.decode("utf-8", "replace"))[:_MAX_LINE_LENGTH]
            rest = b""
    if rest:
        yield _CONTROL.sub("", rest.decode("utf-8", "replace"))[:_MAX_LINE_LENGTH]
