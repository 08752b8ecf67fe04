"""Handles a dispatch message: claims the stage and runs an attempt. Knows nothing of Celery, HTTP or processes."""

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from craft.contracts.stages.claims import Claim, ClaimedStage
from craft.contracts.stages.kinds import Service
from craft.errors import CraftError, LeaseLost, Unavailable
from craft.infra.backoff import exponential_backoff
from craft.infra.observe import telemetry
from craft.infra.settings.worker import WorkerSettings
from craft.infra.storage.artifacts import ArtifactStore
from craft.infra.worker.attempt import Child, RunningAttempt
from craft.infra.worker.device import DeviceLock, no_device_lock, no_memory_to_release
from craft.infra.worker.reports import AttemptEnd, Coordinator
from craft.infra.worker.stage_log import LogBuffer

_CLAIM_TRIES = 3
_CLAIM_PAUSE_SECONDS = 0.5
_LATE_REPORT_SECONDS = 10.0
"""Twice the longest pause between two tries of a late report."""
_LAST_REPORT_SECONDS = 60.0
_log = logging.getLogger("craft.worker")


class _Claimed(NamedTuple):
    stage: ClaimedStage
    began: float
    """The clock's reading before the claim was sent: the lease counts from a later moment."""


class StageRunner:
    """Runs one stage at a time. `owner` names this process and no other.

    `device` names the device that `device_lock` locks. `release_memory` asks a process that keeps the device's memory
    without the lock, such as the model server, to free it.
    """

    def __init__(
        self,
        *,
        service: Service,
        owner: str,
        coordinator: Coordinator,
        store: ArtifactStore,
        child: Child,
        settings: WorkerSettings,
        redact: Callable[[str], str] = str,
        device_lock: DeviceLock = no_device_lock,
        device: str | None = None,
        release_memory: Callable[[], None] = no_memory_to_release,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claim = Claim(owner=owner, service=service, device=device)
        self._release_memory = release_memory
        self._coordinator = coordinator
        self._store = store
        self._child = child
        self._settings = settings
        self._redact = redact
        self._device_lock = device_lock
        self._clock = clock
        self._stopping = threading.Event()
        self._attempt: RunningAttempt | None = None
        self._late_report: threading.Thread | None = None

    def run(self, stage_id: str) -> AttemptEnd:
        """Wait for the device, claim a stage and run it.

        The message's stage only names the queue: the coordinator may give another stage of it, or none. While this
        worker waits for the device, another one may claim the stage.
        """
        with self._device_lock(self._stopping) as acquired:
            ended = self._run(stage_id) if acquired else AttemptEnd.NOTHING_TO_DO
        if ended is AttemptEnd.DEVICE_FAILED and self._late_report is not None:
            # This process ends now, and the stage need not wait for the end of its lease.
            self._late_report.join(_LAST_REPORT_SECONDS)
        return ended

    def _run(self, stage_id: str) -> AttemptEnd:
        claim = self._claimed(stage_id)
        if claim is None:
            return AttemptEnd.NOTHING_TO_DO
        claimed, began = claim
        with telemetry.stage_span(claimed):
            ended = self._attempted(claimed, began)
            telemetry.set_attributes(outcome=ended.value)
            if ended is AttemptEnd.LOST:
                telemetry.mark_failed(LeaseLost.code)
            return ended

    def _claimed(self, stage_id: str) -> _Claimed | None:
        """Claim a stage, again where the coordinator does not answer: the claim may be stored and its answer lost.

        A new claim of this worker gives back what the lost one got. None if there is nothing to do; if it is for want
        of an answer, the stage stays ready, and the coordinator sends its dispatch message again.
        """
        if self._late_report is not None:
            # A claim gives back what this worker had: the report of a finished stage would come too late.
            self._late_report.join(_LATE_REPORT_SECONDS)
        for failures in range(_CLAIM_TRIES):
            pause = exponential_backoff(failures, first=_CLAIM_PAUSE_SECONDS, longest=5.0)
            if failures and self._stopping.wait(pause):
                return None
            began = self._clock()
            try:
                stage = self._coordinator.claim(stage_id, self._claim)
                return None if stage is None else _Claimed(stage, began)
            except CraftError as error:
                _log.warning("claim_failed", extra={"stage_id": stage_id, "detail": error.message})
                if not isinstance(error, Unavailable):
                    return None
        return None

    def _attempted(self, claimed: ClaimedStage, began: float) -> AttemptEnd:
        self._attempt = attempt = RunningAttempt(
            claimed,
            coordinator=self._coordinator,
            store=self._store,
            child=self._child,
            settings=self._settings,
            log=LogBuffer(redact=self._redact),
            clock=self._clock,
            began=began,
            stopping=self._stopping,
            release_memory=self._release_memory,
        )
        if self._stopping.is_set():
            attempt.stop()
        try:
            return attempt.run()
        finally:
            self._late_report, self._attempt = attempt.late_report, None

    def stop(self) -> None:
        """Stop the running stage, give it back and claim no other. May be called from a signal handler."""
        self._stopping.set()
        if attempt := self._attempt:
            attempt.stop()
