"""The report that an attempt sends to the coordinator at its end."""

import logging
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import Manifest
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Fail, Release, Renew, Renewed
from craft.errors import Conflict, CraftError, LeaseLost, NotFound, Unavailable
from craft.infra.backoff import exponential_backoff
from craft.infra.worker.heartbeat import Heartbeat

_FIRST_PAUSE_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 5.0


class Coordinator(Protocol):
    """The coordinator's calls that a worker uses; errors as in `CoordinatorClient`."""

    def claim(self, stage_id: str, claim: Claim) -> ClaimedStage | None: ...
    def renew(self, stage_id: str, renew: Renew) -> Renewed: ...
    def complete(self, stage_id: str, complete: Complete) -> None: ...
    def fail(self, stage_id: str, fail: Fail) -> None: ...
    def release(self, stage_id: str, release: Release) -> None: ...


class AttemptEnd(StrEnum):
    """The end of an attempt. LOST: another worker has the stage, or the coordinator did not answer in time.

    DEVICE_FAILED: this process must not take another stage, whatever became of the report.
    """

    NOTHING_TO_DO = "nothing_to_do"
    COMPLETED = "completed"
    FAILED = "failed"
    RELEASED = "released"
    LOST = "lost"
    DEVICE_FAILED = "device_failed"


class Reports:
    """Sends one attempt's last report, with its remaining log lines, and ends its heartbeat.

    A report that the coordinator does not answer in time is sent in the background until it does: the stage then goes
    on at once and not at the end of its lease, and no attempt is counted. If the stage has another owner by then, the
    fence makes the report void.
    """

    def __init__(
        self,
        claimed: ClaimedStage,
        coordinator: Coordinator,
        heartbeat: Heartbeat,
        *,
        logger: logging.LoggerAdapter[logging.Logger],
        stopping: threading.Event,
    ) -> None:
        self._id = claimed.stage_id
        self._fence = claimed.fence
        self._coordinator = coordinator
        self._heartbeat = heartbeat
        self._logger = logger
        self._stopping = stopping
        self.late: threading.Thread | None = None
        """Sends the report in the background, until there is an answer."""

    def complete(self, manifest: Manifest) -> AttemptEnd:
        """Report that the artifact is published."""
        complete = Complete(fence=self._fence, manifest=manifest, log_lines=self._remaining_lines())
        return self._send(lambda: self._coordinator.complete(self._id, complete), AttemptEnd.COMPLETED)

    def fail(self, error: StageError) -> AttemptEnd:
        """Report that the attempt failed."""
        self._heartbeat.report_news()
        fail = Fail(fence=self._fence, error=error, log_lines=self._remaining_lines())
        return self._send(lambda: self._coordinator.fail(self._id, fail), AttemptEnd.FAILED)

    def release(self) -> AttemptEnd:
        """Give the stage back. LOST where the coordinator does not answer."""
        release = Release(fence=self._fence, log_lines=self._remaining_lines())
        return self._send(lambda: self._coordinator.release(self._id, release), AttemptEnd.RELEASED)

    def give_up(self) -> AttemptEnd:
        """The lease could not be renewed, so the child is dead: give the stage back once the coordinator answers."""
        release = Release(fence=self._fence, log_lines=self._remaining_lines())
        self._send_later(lambda: self._coordinator.release(self._id, release))
        return AttemptEnd.LOST

    def _remaining_lines(self) -> list[str]:
        self._heartbeat.close()
        return self._heartbeat.remaining_lines()

    def _send(self, call: Callable[[], None], ended: AttemptEnd) -> AttemptEnd:
        """Repeat the idempotent call while the coordinator does not answer and the lease may still be ours."""
        failures = 0
        while True:
            try:
                call()
            except (LeaseLost, NotFound, Conflict):
                return AttemptEnd.LOST
            except Unavailable as error:
                self._logger.warning("report_failed", extra={"detail": error.message})
                failures += 1
                if self._heartbeat.overdue():
                    self._send_later(call)
                    return AttemptEnd.LOST
                if self._stopping.wait(_pause_seconds(failures)):
                    return AttemptEnd.LOST
            else:
                return ended

    def _send_later(self, call: Callable[[], None]) -> None:
        self.late = threading.Thread(target=self._send_until_answered, args=(call,), name="late-report", daemon=True)
        self.late.start()

    def _send_until_answered(self, call: Callable[[], None]) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                call()
            except Unavailable:
                failures += 1
                self._stopping.wait(_pause_seconds(failures))
            except CraftError as error:
                self._logger.info("late_report_void", extra={"detail": error.message})
                return
            else:
                self._logger.info("late_report_done")
                return


def _pause_seconds(failures: int) -> float:
    return exponential_backoff(failures, first=_FIRST_PAUSE_SECONDS, longest=_MAX_PAUSE_SECONDS)
