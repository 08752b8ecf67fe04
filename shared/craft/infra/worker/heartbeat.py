"""Renews a stage's lease while a child works. The answers say whether to continue."""

import contextvars
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from craft.contracts.stages.claims import Renew, Renewed, StageProgress
from craft.errors import Conflict, CraftError, LeaseLost, NotFound
from craft.infra.worker.stage_log import MAX_LINES_SENT, LogBuffer

_log = logging.getLogger("craft.worker")


class StopReason(StrEnum):
    """Why to end the child. LOST: the lease is no longer ours. STOP: the coordinator or a signal asks for it."""

    LOST = "lost"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class HeartbeatIntervals:
    """Intervals, in seconds, for renewing the lease, giving it up and reporting progress."""

    beat_seconds: float
    give_up_seconds: float
    report_seconds: float = 1.0


class Heartbeat:
    """Renews at every beat, and sooner where there is progress or log output.

    `on_stop` is called once at most, from the heartbeat's thread.
    """

    def __init__(
        self,
        renew: Callable[[Renew], Renewed],
        *,
        fence: int,
        log: LogBuffer,
        intervals: HeartbeatIntervals,
        on_stop: Callable[[StopReason], None],
        clock: Callable[[], float],
        last_contact: float,
    ) -> None:
        """`last_contact` is the clock's reading before the claim was sent."""
        self._renew = renew
        self._fence = fence
        self._log = log
        self._intervals = intervals
        self._on_stop = on_stop
        self._clock = clock
        self._last_contact = last_contact
        self._progress: StageProgress | None = None
        self._news = False
        self._beating = threading.Lock()
        self._closed = threading.Event()
        # In the caller's context, so that the renewals belong to the attempt's trace.
        beating = contextvars.copy_context()
        self._thread = threading.Thread(target=beating.run, args=(self._run,), name="heartbeat", daemon=True)
        self._thread.start()

    def progress(self, progress: StageProgress) -> None:
        """Report the latest progress. It replaces progress that was not sent yet."""
        self._progress = progress
        self._news = True

    def beat(self) -> StopReason | None:
        """Renew now. None: continue, also where the coordinator does not answer and the lease may still be ours."""
        with self._beating:
            began = self._clock()
            if self.overdue():
                return StopReason.LOST
            self._news = False
            lines = self._log.take()
            try:
                answer = self._renew(Renew(fence=self._fence, progress=self._progress, log_lines=lines))
            except (LeaseLost, NotFound, Conflict):
                return StopReason.LOST
            except CraftError as error:
                self._log.restore(lines)
                _log.warning("renewal_failed", extra={"error": error.message})
                return StopReason.LOST if self.overdue() else None
            # The lease counts from when the coordinator received the call, which was not before we began to send it.
            self._last_contact = began
            return StopReason.STOP if answer.stop else None

    def overdue(self) -> bool:
        """True if the last renewal is so old that the coordinator may soon give the stage to another worker."""
        return self._clock() - self._last_contact > self._intervals.give_up_seconds

    def close(self) -> None:
        """Stop renewing. Returns when no renewal is in flight."""
        self._closed.set()
        self._thread.join()

    def report_news(self) -> None:
        """Send progress that was not sent yet: what an attempt achieved counts, also if it fails right after."""
        if self._news:
            self.beat()

    def remaining_lines(self) -> list[str]:
        """The unsent lines, for the attempt's last report. Lines that do not fit into it are sent before it."""
        while (before := self._log.waiting) > MAX_LINES_SENT:
            # The coordinator does not answer, or the lease is lost.
            if self.beat() is StopReason.LOST or self._log.waiting >= before:
                break
        return self._log.take()

    def _run(self) -> None:
        pause = min(self._intervals.report_seconds, self._intervals.beat_seconds)
        waited = 0.0
        while not self._closed.wait(pause):
            waited += pause
            due = waited >= self._intervals.beat_seconds
            if not (due or self._news or self._log.waiting):
                continue
            waited = 0.0
            reason = self.beat()
            if reason is not None:
                self._on_stop(reason)
                return
