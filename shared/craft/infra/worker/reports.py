"""The report that an attempt sends to the coordinator at its end."""

import logging
import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from craft.contracts.problems import StageError
from craft.contracts.stages.artifacts import Manifest
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Fail, Release, Renew, Renewed
from craft.errors import Conflict, LeaseLost, NotFound, Unavailable
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
    """The end of an attempt. LOST: another worker has the stage, or the coordinator did not answer the report."""

    NOTHING_TO_DO = "nothing_to_do"
    COMPLETED = "completed"
    FAILED = "failed"
    RELEASED = "released"
    LOST = "lost"


class Reports:
    """Sends one attempt's last report, with its remaining log lines, and ends its heartbeat."""

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

    def complete(self, manifest: Manifest) -> AttemptEnd:
        """Report that the artifact is published."""
        complete = Complete(fence=self._fence, manifest=manifest, log_lines=self._remaining_lines())
        return self._send(lambda: self._coordinator.complete(self._id, complete), AttemptEnd.COMPLETED)

    def fail(self, error: StageError) -> AttemptEnd:
        """Report that the attempt failed."""
        fail = Fail(fence=self._fence, error=error, log_lines=self._remaining_lines())
        return self._send(lambda: self._coordinator.fail(self._id, fail), AttemptEnd.FAILED)

    def release(self) -> AttemptEnd:
        """Give the stage back. LOST where the coordinator does not answer: the lease then expires by itself."""
        release = Release(fence=self._fence, log_lines=self._remaining_lines())
        return self._send(lambda: self._coordinator.release(self._id, release), AttemptEnd.RELEASED)

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
                pause = exponential_backoff(failures, first=_FIRST_PAUSE_SECONDS, longest=_MAX_PAUSE_SECONDS)
                if self._heartbeat.overdue() or self._stopping.wait(pause):
                    return AttemptEnd.LOST
            else:
                return ended
