"""One attempt at one claimed stage: what to do about each thing that can happen to it."""

import contextlib
import queue
import shutil
import signal
import threading
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from craft.contracts.problems import StageError
from craft.contracts.stages import (
    Claim,
    ClaimedStage,
    Complete,
    Fail,
    Release,
    Renew,
    Renewed,
    StageProgress,
    StageResult,
)
from craft.errors import Conflict, CraftError, Internal, LeaseLost, NotFound, StageTimeout, Unavailable, WorkerLost
from craft.infra.artifacts import ArtifactStore
from craft.infra.child_channel import Failed, Finished
from craft.infra.child_process import Died, Outcome, StageListener, StageWork
from craft.infra.failures import error_of
from craft.infra.heartbeat import Heartbeat, Rhythm, Verdict
from craft.infra.log import stage_logger
from craft.infra.settings import WorkerSettings
from craft.infra.stage_log import StageLog

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class Coordinator(Protocol):
    """What a worker asks of the coordinator; errors as in `CoordinatorClient`."""

    def claim(self, stage_id: str, claim: Claim) -> ClaimedStage | None: ...
    def renew(self, stage_id: str, renew: Renew) -> Renewed: ...
    def complete(self, stage_id: str, complete: Complete) -> None: ...
    def fail(self, stage_id: str, fail: Fail) -> None: ...
    def release(self, stage_id: str, release: Release) -> None: ...


class Child(Protocol):
    """What does the work; see `WarmChild`."""

    def start(self, work: StageWork, listener: StageListener) -> None: ...
    def kill(self, *, grace_seconds: float | None = None) -> None: ...


class Ended(StrEnum):
    """How a message ended. LOST: somebody else has the stage, or nobody could be told."""

    NOTHING_TO_DO = "nothing_to_do"
    COMPLETED = "completed"
    FAILED = "failed"
    RELEASED = "released"
    LOST = "lost"


class Attempt:
    """One claimed stage. It is the child's listener."""

    def __init__(
        self,
        claimed: ClaimedStage,
        *,
        coordinator: Coordinator,
        store: ArtifactStore,
        child: Child,
        settings: WorkerSettings,
        log: StageLog,
        clock: Callable[[], float],
        began: float,
        stopping: threading.Event,
        make_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._claimed = claimed
        self._coordinator = coordinator
        self._store = store
        self._child = child
        self._settings = settings
        self._log = log
        self._clock = clock
        self._deadline = began + claimed.timeout_seconds
        self._stopping = stopping
        self._make_room = make_room
        # Reentrant, so that a signal handler may put something in.
        self._mailbox: queue.SimpleQueue[Outcome | Verdict] = queue.SimpleQueue()
        self._logger = stage_logger(job=claimed.job_id, stage=claimed.name, attempt=claimed.attempt)
        self._heartbeat = Heartbeat(
            lambda renew: coordinator.renew(claimed.stage_id, renew),
            fence=claimed.fence,
            log=log,
            rhythm=Rhythm(beat_seconds=claimed.beat_seconds, give_up_seconds=settings.give_up_seconds),
            tell=self._mailbox.put,
            clock=clock,
            contact=began,
        )

    def on_progress(self, progress: StageProgress) -> None:
        self._heartbeat.progress(progress)

    def on_log(self, line: str) -> None:
        self._log.append(line)
        self._logger.info("stage_log", extra={"line": line})

    def on_outcome(self, outcome: Outcome) -> None:
        self._mailbox.put(outcome)

    def stop(self) -> None:
        self._mailbox.put(Verdict.STOP)

    def run(self) -> Ended:
        self._logger.info("stage_started")
        scratch: Path | None = None
        try:
            # The heart beats already: this may take longer than the lease.
            self._make_room()
            scratch = self._store.scratch(f"{self._claimed.stage_id}-{self._claimed.fence}")
            self._child.start(self._work(scratch), self)
            ended = self._supervise(scratch)
        except Exception as error:  # an attempt's edge: a failure that is not reported would look like a lost worker
            self._logger.exception("attempt_crashed")
            self._child.kill(grace_seconds=0)
            ended = self._fail(error_of(error))
        finally:
            self._heartbeat.close()
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)
        self._logger.info("stage_ended", extra={"ended": ended.value})
        return ended

    def _work(self, scratch: Path) -> StageWork:
        try:
            inputs = {role: self._store.open(ref) for role, ref in self._claimed.inputs.items()}
        except NotFound as error:
            # The caller asked for a job, not for an artifact: it is no fault of theirs.
            raise Internal(f"An input of the stage is gone: {error.message}", hint="Retry the job.") from error
        return StageWork(
            parameters=self._claimed.parameters,
            inputs=inputs,
            output=scratch,
            checkpoint=self._store.checkpoint(self._claimed.key),
        )

    def _supervise(self, scratch: Path) -> Ended:
        try:
            event = self._mailbox.get(timeout=max(0.0, self._deadline - self._clock()))
        except queue.Empty:
            self._child.kill()
            seconds = self._claimed.timeout_seconds
            return self._fail(StageTimeout(f"The stage ran for more than {seconds:g} s.", hint="Raise the limit."))
        match event:
            case Finished(result=result):
                return self._publish(scratch, result)
            case Failed(error=error):
                return self._report_failure(error)
            case Died():
                return self._died(event)
            case Verdict.STOP:
                self._child.kill(grace_seconds=self._settings.grace_seconds / 2)
                return self._release()
            case Verdict.LOST:
                # At once: whoever has the stage now may already write into the same checkpoint.
                self._child.kill(grace_seconds=0)
                return Ended.LOST

    def _publish(self, scratch: Path, result: StageResult) -> Ended:
        match self._heartbeat.beat():
            case Verdict.LOST:
                return Ended.LOST
            case Verdict.STOP:
                return self._release()
        manifest = self._store.publish(
            scratch,
            key=self._claimed.key,
            kind=self._claimed.parameters.kind,
            parameters=self._claimed.parameters.model_dump(mode="json"),
            inputs=self._claimed.inputs,
            result=result,
        )
        self._heartbeat.close()
        complete = Complete(fence=self._claimed.fence, manifest=manifest, log_lines=self._log.take())
        ended = self._told(lambda: self._coordinator.complete(self._claimed.stage_id, complete), Ended.COMPLETED)
        if ended is Ended.COMPLETED:
            # Nothing resumes a finished stage, and checkpoints are as large as what they lead to.
            shutil.rmtree(self._store.checkpoint(self._claimed.key), ignore_errors=True)
        return ended

    def _died(self, died: Died) -> Ended:
        peak = f"peak memory {died.peak_memory_bytes / 2**30:.2f} GiB"
        if died.exit_signal is None:
            error = WorkerLost(f"The stage's process ended with exit code {died.exit_code}; {peak}.")
        else:
            name = signal.Signals(died.exit_signal).name if died.exit_signal in set(signal.Signals) else "?"
            hint = "Most often the machine ran out of memory." if died.exit_signal == signal.SIGKILL else None
            error = WorkerLost(f"The stage's process was killed by {name}; {peak}.", hint=hint)
        return self._report_failure(StageError.of(error).model_copy(update={"exit_signal": died.exit_signal}))

    def _fail(self, error: CraftError) -> Ended:
        return self._report_failure(StageError.of(error))

    def _report_failure(self, error: StageError) -> Ended:
        self._heartbeat.close()
        error = error.model_copy(update={"last_log_lines": self._log.last})
        self._logger.warning("stage_failed", extra={"code": error.code, "detail": error.message})
        fail = Fail(fence=self._claimed.fence, error=error, log_lines=self._log.take())
        return self._told(lambda: self._coordinator.fail(self._claimed.stage_id, fail), Ended.FAILED)

    def _release(self) -> Ended:
        self._heartbeat.close()
        release = Release(fence=self._claimed.fence, log_lines=self._log.take())
        with contextlib.suppress(Unavailable):  # the lease runs out by itself
            return self._told(lambda: self._coordinator.release(self._claimed.stage_id, release), Ended.RELEASED)
        return Ended.LOST

    def _told(self, call: Callable[[], None], ended: Ended) -> Ended:
        """Repeat the call while the coordinator is away and the lease may still be ours; each call is idempotent."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                call()
            except (LeaseLost, NotFound, Conflict):
                return Ended.LOST
            except Unavailable as error:
                self._logger.warning("report_failed", extra={"detail": error.message})
                if self._heartbeat.overdue() or self._stopping.wait(pause):
                    return Ended.LOST
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return ended
