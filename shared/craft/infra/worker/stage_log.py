"""The log lines of a stage: kept until the coordinator has them; the last ones also for the report of a failure."""

import threading
from collections import deque
from collections.abc import Callable

MAX_LINES_SENT = 1000
"""The most that one call of the contracts accepts."""
_LINES_IN_A_REPORT = 50


class LogBuffer:
    """A bounded buffer: where a stage prints faster than lines are sent, the oldest are dropped and counted."""

    def __init__(self, *, redact: Callable[[str], str] = str, max_waiting: int = 10 * MAX_LINES_SENT) -> None:
        self._redact = redact
        self._waiting: deque[str] = deque()
        self._most_waiting = max_waiting
        self._last: deque[str] = deque(maxlen=_LINES_IN_A_REPORT)
        self._dropped = 0
        self._lock = threading.Lock()

    def append(self, line: str) -> None:
        """Add one line."""
        line = self._redact(line)
        with self._lock:
            self._last.append(line)
            self._waiting.append(line)
            if len(self._waiting) > self._most_waiting:
                self._waiting.popleft()
                self._dropped += 1

    def take(self) -> list[str]:
        """Take out the oldest unsent lines, as many as one call accepts; `restore` puts them back after a failure."""
        with self._lock:
            note = [f"[{self._dropped} lines dropped]"] if self._dropped else []
            self._dropped = 0
            count = min(len(self._waiting), MAX_LINES_SENT - len(note))
            return note + [self._waiting.popleft() for _ in range(count)]

    def restore(self, lines: list[str]) -> None:
        """Put back lines that `take` returned and that were not received."""
        with self._lock:
            self._waiting.extendleft(reversed(lines))

    @property
    def waiting(self) -> int:
        """The number of unsent lines."""
        return len(self._waiting)

    @property
    def last(self) -> list[str]:
        """The last lines, sent or not."""
        with self._lock:
            return list(self._last)
