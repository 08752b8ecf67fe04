"""One attempt at a claimed stage, from its start to its report; reacts to each event that can happen meanwhile."""

import contextlib
import queue
import shutil
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.claims import ClaimedStage, StageProgress
from craft.errors import (
    ArtifactDamaged,
    CraftError,
    DeviceFailed,
    DiskFull,
    HostOutOfMemory,
    NotFound,
    StageTimeout,
    WorkerLost,
)
from craft.infra.observe import telemetry
from craft.infra.observe.log import stage_logger
from craft.infra.process.device_failures import device_failure_in
from craft.infra.process.error_mapping import device_failed, error_of
from craft.infra.process.server_paths import stage_error_without_paths
from craft.infra.settings.worker import WorkerSettings
from craft.infra.stage.channel import Failed, Finished
from craft.infra.storage.artifacts import ArtifactStore
from craft.infra.worker.child_process import ChildOutcome, Died, StageListener, StageWork
from craft.infra.worker.heartbeat import Heartbeat, HeartbeatIntervals, StopReason
from craft.infra.worker.reports import AttemptEnd, Coordinator, Reports
from craft.infra.worker.stage_log import LogBuffer

_LAST_LINES_SECONDS = 3.0
"""A killed child's pipe is read to its end before its death is reported; this bounds the wait."""
_GIVE_UP_SHARE = 2 / 3
"""The share of its lease after which a worker that cannot renew ends its child: well before another gets the stage."""
_CRASHES = {signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
"""A native library ends its process by these: CUDA's, where a failed device throws below Python."""
_FULL_DISK_BYTES = 2**20
"""With less than this left, a process that dies has found no space: torch, for one, writes through mapped memory."""


class Child(Protocol):
    """The process that runs the stage; see `WarmChild`."""

    def start(self, work: StageWork, listener: StageListener) -> None: ...
    def kill(self, *, grace_seconds: float | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """The stage's inputs are undamaged, and the memory that it needs is free. `inputs`: their folders by role."""

    inputs: Mapping[str, Path]


class RunningAttempt:
    """Runs one claimed stage, and listens to the child that computes it."""

    def __init__(
        self,
        claimed: ClaimedStage,
        *,
        coordinator: Coordinator,
        store: ArtifactStore,
        child: Child,
        settings: WorkerSettings,
        log: LogBuffer,
        clock: Callable[[], float],
        began: float,
        stopping: threading.Event,
        release_memory: Callable[[], None],
    ) -> None:
        self._claimed = claimed
        self._store = store
        self._child = child
        self._settings = settings
        self._log = log
        self._clock = clock
        self._deadline = began + claimed.timeout_seconds
        self._release_memory = release_memory
        self._stopping = stopping
        self._at_work = False
        self._over = threading.Event()
        # SimpleQueue is reentrant, so a signal handler may put an event in.
        self._mailbox: queue.SimpleQueue[Prepared | ChildOutcome | StopReason] = queue.SimpleQueue()
        self._logger = stage_logger(job=claimed.job_id, stage=claimed.name, attempt=claimed.attempt)
        self._heartbeat = Heartbeat(
            lambda renew: coordinator.renew(claimed.stage_id, renew),
            fence=claimed.fence,
            log=log,
            intervals=HeartbeatIntervals(
                beat_seconds=claimed.beat_seconds,
                give_up_seconds=min(settings.give_up_seconds, claimed.lease_seconds * _GIVE_UP_SHARE),
            ),
            on_stop=self._mailbox.put,
            clock=clock,
            last_contact=began,
        )
        self._reports = Reports(claimed, coordinator, self._heartbeat, logger=self._logger, stopping=stopping)

    @property
    def late_report(self) -> threading.Thread | None:
        """The thread that still sends the attempt's last report, or did; None if it was answered in time."""
        return self._reports.late

    def on_progress(self, progress: StageProgress) -> None:
        self._heartbeat.progress(progress)

    def on_log(self, line: str) -> None:
        self._log.append(line)
        self._logger.info("stage_log", extra={"line": line})

    def on_outcome(self, outcome: ChildOutcome) -> None:
        self._mailbox.put(outcome)

    def stop(self) -> None:
        self._mailbox.put(StopReason.STOP)

    def run(self) -> AttemptEnd:
        self._logger.info("stage_started")
        scratch: Path | None = None
        try:
            scratch = self._store.scratch(f"{self._claimed.stage_id}-{self._claimed.fence}")
            # In a thread, while the heartbeat runs: it may outlast the lease, and a cancel must not wait for it.
            threading.Thread(target=self._prepare, name="prepare", daemon=True).start()
            ended = self._supervise(scratch)
        except Exception as error:  # top level: a failure that is not reported would look like a lost worker
            self._logger.exception("attempt_crashed")
            self._child.kill(grace_seconds=0)
            ended = self._fail(error_of(error))
        finally:
            self._over.set()
            self._heartbeat.close()
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)
        self._logger.info("stage_ended", extra={"ended": ended.value})
        return ended

    def _supervise(self, scratch: Path) -> AttemptEnd:
        match self._next_event():
            case Prepared(inputs=inputs):
                self._child.start(self._work(inputs, scratch), self)
                self._at_work = True
                return self._supervise(scratch)
            case Finished(result=result):
                return self._publish(scratch, result)
            case Failed(error=error):
                return self._report_failure(self._damage() or error)
            case Died() as died:
                return self._report_failure(self._damage() or _error_of_death(died, scratch, self._log.last))
            case StopReason.STOP:
                # No job waits for a worker that shuts down. The next job waits where only the stage stops.
                grace = self._settings.grace_seconds / 2 if self._stopping.is_set() else self._settings.stop_seconds
                self._end_child(grace)
                return self._reports.release()
            case StopReason.LOST:
                # Without grace: the new owner of the stage may already write into the same checkpoint.
                self._child.kill(grace_seconds=0)
                return self._lost()
            case None:
                self._end_child(self._settings.grace_seconds)
                seconds = self._claimed.timeout_seconds
                return self._fail(StageTimeout(f"The stage ran for more than {seconds:g} s.", hint="Raise the limit."))

    def _prepare(self) -> None:
        try:
            inputs = self._verified_inputs()
            if self._over.is_set():
                return  # the memory belongs to a later stage by now
            self._release_memory()
        except Exception as error:  # top level of the thread: the attempt waits for this result
            self._mailbox.put(Failed(error=StageError.of(error_of(error)), reusable=True))
        else:
            self._mailbox.put(Prepared(inputs))

    def _verified_inputs(self) -> dict[str, Path]:
        """The folders of the inputs by role, each one undamaged. Raises ArtifactDamaged, Unavailable."""
        folders: dict[str, Path] = {}
        damaged: list[str] = []
        for role, ref in self._claimed.inputs.items():
            try:
                folders[role] = self._store.open(ref)
            except (NotFound, ArtifactDamaged) as error:
                damaged.append(f"{role}: {error.message}")
        if damaged:
            raise ArtifactDamaged(
                f"An input of the stage is damaged. {' '.join(damaged)}",
                hint="Retry the job: what is damaged is then made again.",
            )
        return folders

    def _damage(self) -> StageError | None:
        """The error where an input was damaged while the stage read it: that explains whatever the stage met."""
        try:
            self._verified_inputs()
        except ArtifactDamaged as error:
            return StageError.of(error)
        except CraftError:
            return None
        return None

    def _next_event(self) -> Prepared | ChildOutcome | StopReason | None:
        """The next event, or None at the deadline."""
        try:
            return self._mailbox.get(timeout=max(0.0, self._deadline - self._clock()))
        except queue.Empty:
            return None

    def _work(self, inputs: Mapping[str, Path], scratch: Path) -> StageWork:
        return StageWork(
            parameters=self._claimed.parameters,
            inputs=inputs,
            output=scratch,
            checkpoint=self._store.checkpoint(self._claimed.key),
        )

    def _end_child(self, grace_seconds: float) -> None:
        """End the child if it has started, and wait until its last log line has arrived."""
        if not self._at_work:
            return
        self._child.kill(grace_seconds=grace_seconds)
        with contextlib.suppress(queue.Empty):
            while not isinstance(self._mailbox.get(timeout=_LAST_LINES_SECONDS), ChildOutcome):
                pass

    def _publish(self, scratch: Path, result: StageResult) -> AttemptEnd:
        match self._heartbeat.beat():
            case StopReason.LOST:
                return self._lost()
            case StopReason.STOP:
                return self._reports.release()
        if damage := self._damage():
            return self._report_failure(damage)
        manifest = self._store.publish(
            scratch,
            key=self._claimed.key,
            kind=self._claimed.parameters.kind,
            parameters=self._claimed.parameters.model_dump(mode="json"),
            inputs=self._claimed.inputs,
            result=result,
        )
        ended = self._reports.complete(manifest)
        if ended is AttemptEnd.COMPLETED:
            self._forget_checkpoint()
        return ended

    def _forget_checkpoint(self) -> None:
        """Remove the checkpoint: a finished stage is never resumed, and a checkpoint is as large as its result."""
        # Garbage collection removes the rest where the disk fails here.
        with contextlib.suppress(OSError):
            aside = self._store.scratch("checkpoint")
            # First renamed, in one step: an attempt that computes the same key again may create a folder of this name.
            self._store.checkpoint(self._claimed.key).rename(aside / "checkpoint")
            shutil.rmtree(aside, ignore_errors=True)

    def _lost(self) -> AttemptEnd:
        # Nobody refused the renewal: the coordinator is away, and the stage may still be ours when it comes back.
        return self._reports.give_up() if self._heartbeat.overdue() else AttemptEnd.LOST

    def _fail(self, error: CraftError) -> AttemptEnd:
        return self._report_failure(StageError.of(error))

    def _report_failure(self, error: StageError) -> AttemptEnd:
        self._logger.warning("stage_failed", extra={"code": error.code, "detail": error.message})
        telemetry.mark_failed(error.code)
        shown = stage_error_without_paths(error.model_copy(update={"last_log_lines": self._log.last}))
        ended = self._reports.fail(shown)
        return AttemptEnd.DEVICE_FAILED if error.code == DeviceFailed.code else ended


def _error_of_death(died: Died, scratch: Path, last_lines: Sequence[str]) -> StageError:
    peak = f"peak memory {died.peak_memory_bytes / 2**30:.2f} GiB"
    error: CraftError
    if died.exit_signal in _CRASHES and (words := device_failure_in("\n".join(last_lines))):
        error = device_failed(words)
    elif died.exit_signal != signal.SIGKILL and shutil.disk_usage(scratch).free < _FULL_DISK_BYTES:
        error = DiskFull("The stage's process died on a full disk.", hint="Free space below the artifacts folder.")
    elif died.memory_limit_bytes is not None:
        error = HostOutOfMemory(
            f"The stage took more than the {died.memory_limit_bytes / 2**30:.2f} GiB that its process may hold.",
            hint="Lower batch sizes, samples or the length of prompts, use a smaller model, or have "
            "CRAFT_WORKER__MEMORY_BYTES raised on a machine that has more.",
        )
    elif died.exit_signal is None:
        error = WorkerLost(f"The stage's process ended with exit code {died.exit_code}; {peak}.")
    else:
        name = signal.Signals(died.exit_signal).name if died.exit_signal in set(signal.Signals) else "?"
        hint = "Most often the machine ran out of memory." if died.exit_signal == signal.SIGKILL else None
        error = WorkerLost(f"The stage's process was killed by {name}; {peak}.", hint=hint)
    known = {"exit_signal": died.exit_signal, "peak_memory_bytes": died.peak_memory_bytes}
    return StageError.of(error).model_copy(update=known)
