"""Keeps a stage's lease while a child works, and learns from the answers whether to go on."""

import contextvars
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from craft.contracts.stages.claims import Renew, Renewed, StageProgress
from craft.errors import Conflict, CraftError, LeaseLost, NotFound
from craft.infra.worker.stage_log import MOST_LINES_SENT, LogBuffer

_log = logging.getLogger("craft.worker")


class StopReason(StrEnum):
    """Why to end the child: the stage is no longer ours, or somebody asks us to stop."""

    LOST = "lost"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class HeartbeatIntervals:
    """How often to renew, when to give up, and how soon news of progress travels (all in seconds)."""

    beat_seconds: float
    give_up_seconds: float
    report_seconds: float = 1.0


class Heartbeat:
    """Renews every beat, and sooner where there is news. `tell` hears one verdict at most, from the heart's thread."""

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
        """`contact` is the clock's reading before the claim was sent."""
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
        # In the span of whoever made it, so that the renewals belong to the attempt's trace.
        beating = contextvars.copy_context()
        self._thread = threading.Thread(target=beating.run, args=(self._run,), name="heartbeat", daemon=True)
        self._thread.start()

    def progress(self, progress: StageProgress) -> None:
        """The latest progress; what was not sent yet is replaced."""
        self._progress = progress
        self._news = True

    def beat(self) -> StopReason | None:
        """Renew now. None: go on, also where the coordinator was away, but not for too long yet."""
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
            # The lease counts from when the coordinator heard us, which was not before we began to speak.
            self._last_contact = began
            return StopReason.STOP if answer.stop else None

    def overdue(self) -> bool:
        """Whether so long has passed since the coordinator heard us that the stage may soon be another's."""
        return self._clock() - self._last_contact > self._intervals.give_up_seconds

    def close(self) -> None:
        """Beat no more by itself. Returns when no renewal is on its way."""
        self._closed.set()
        self._thread.join()

    def last_words(self) -> list[str]:
        """The lines that wait, for the attempt's last report. What one report cannot take goes ahead of it."""
        while (before := self._log.waiting) > MOST_LINES_SENT:
            # Nobody hears us, or the stage is another's.
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
            verdict = self.beat()
            if verdict is not None:
                self._on_stop(verdict)
                return
