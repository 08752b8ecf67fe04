"""Supervises at most one child process: starts it, keeps it warm between stages and ends it."""

import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from craft.infra.process.compute_threads import with_short_spins
from craft.infra.process.memory import machine_memory_bytes
from craft.infra.settings.worker import WorkerSettings
from craft.infra.stage.channel import Failed, Finished
from craft.infra.worker.child_process import ChildOutcome, ChildProcess, StageListener, StageWork

_SHARE_OF_MEMORY = 0.8
_KEPT_FROM_CHILD = (
    "CRAFT_WORKER_TOKEN",
    "CRAFT_SERVICE_TOKEN",
    "CRAFT_METRICS_TOKEN",
    "CRAFT_DATABASE_URL",
    "CRAFT_BROKER_URL",
    "OTEL_EXPORTER_OTLP_HEADERS",
)
"""Secrets are kept from the child, because a stage loads models and parses data that others wrote."""


def memory_limit_bytes(settings: WorkerSettings) -> int | None:
    """The most memory of a child: what was set, or four fifths of the machine's; None where that is unknown."""
    if settings.memory_bytes is not None:
        return settings.memory_bytes
    machine = machine_memory_bytes()
    return None if machine is None else int(machine * _SHARE_OF_MEMORY)


class WarmChild:
    """At most one child process at a time. A healthy child stays for the next stage, for `warm_seconds` at most.

    With `warm_seconds` 0 the child is gone and its memory is free before the listener receives the outcome.
    """

    def __init__(
        self, functions_path: str, settings: WorkerSettings, *, environment: Mapping[str, str] | None = None
    ) -> None:
        """`functions_path` is `package.module:callable`.

        The child gets `environment`, by default this process's own, without the secrets in it.
        """
        self._functions_path = functions_path
        self._environment = dict(os.environ if environment is None else environment)
        self._settings = settings
        self._lock = threading.RLock()
        self._process: ChildProcess | None = None
        self._idle: threading.Timer | None = None
        # The kernel's death signal fires when the starting *thread* ends, so one thread that never ends starts all.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="child-starter")

    @property
    def pid(self) -> int | None:
        """The process id of the running child, which is also its group's id."""
        process = self._process
        return process.pid if process and process.alive else None

    def start(self, work: StageWork, listener: StageListener) -> None:
        """Begin a stage in the warm child or a new one. Raises OSError if no process can be started."""
        with self._lock:
            self._stop_idling()
            if self._process is None or not self._process.alive:
                self._process = self._starter.submit(self._spawn).result()
            self._process.begin(work, _ReturningListener(self, self._process, listener))

    def kill(self, *, grace_seconds: float | None = None) -> None:
        """End the child and its descendants: SIGTERM, after the grace period SIGKILL. Returns when they are gone."""
        with self._lock:
            self._stop_idling()
            process, self._process = self._process, None
        if process is not None:
            process.end(self._settings.grace_seconds if grace_seconds is None else grace_seconds)

    def close(self) -> None:
        """Kill the child and start no other."""
        self.kill()
        self._starter.shutdown()

    def _spawn(self) -> "ChildProcess":
        environment = {name: value for name, value in self._environment.items() if name not in _KEPT_FROM_CHILD}
        return ChildProcess(self._functions_path, memory_limit_bytes(self._settings), with_short_spins(environment))

    def _returned(self, process: "ChildProcess", *, reusable: bool) -> None:
        with self._lock:
            if self._process is not process:
                return
            if not reusable or self._settings.warm_seconds <= 0:
                self._process = None
            else:
                self._idle = threading.Timer(self._settings.warm_seconds, self._cool, args=(process,))
                self._idle.daemon = True
                self._idle.start()
                return
        process.end(0)

    def _cool(self, process: "ChildProcess") -> None:
        with self._lock:
            if self._process is not process or self._idle is None:
                return
            self._process = None
        process.end(self._settings.grace_seconds)

    def _stop_idling(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


class _ReturningListener:
    """Forwards every event. Before the outcome it returns the process, so that the next stage finds it warm."""

    def __init__(self, owner: WarmChild, process: "ChildProcess", listener: StageListener) -> None:
        self._owner = owner
        self._process = process
        self.on_progress = listener.on_progress
        self.on_log = listener.on_log
        self._on_outcome = listener.on_outcome

    def on_outcome(self, outcome: ChildOutcome) -> None:
        reusable = isinstance(outcome, Finished) or (isinstance(outcome, Failed) and outcome.reusable)
        self._owner._returned(self._process, reusable=reusable)
        self._on_outcome(outcome)
