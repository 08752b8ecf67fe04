"""The lines that a stage prints: kept until the coordinator has them, and the last ones for a failure's report."""

import threading
from collections import deque
from collections.abc import Callable

MOST_LINES_SENT = 1000
"""As many as one call of the contracts takes."""
_LINES_IN_A_REPORT = 50


class LogBuffer:
    """Bounded: of a stage that prints faster than it is sent, the oldest lines that wait are dropped, and counted."""

    def __init__(self, *, redact: Callable[[str], str] = str, most_waiting: int = 10 * MOST_LINES_SENT) -> None:
        self._redact = redact
        self._waiting: deque[str] = deque()
        self._most_waiting = most_waiting
        self._last: deque[str] = deque(maxlen=_LINES_IN_A_REPORT)
        self._dropped = 0
        self._lock = threading.Lock()

    def append(self, line: str) -> None:
        """One line more."""
        line = self._redact(line)
        with self._lock:
            self._last.append(line)
            self._waiting.append(line)
            if len(self._waiting) > self._most_waiting:
                self._waiting.popleft()
                self._dropped += 1

    def take(self) -> list[str]:
        """The oldest waiting lines, as many as one call takes; give them back with `restore` where it fails."""
        with self._lock:
            note = [f"[{self._dropped} lines dropped]"] if self._dropped else []
            self._dropped = 0
            count = min(len(self._waiting), MOST_LINES_SENT - len(note))
            return note + [self._waiting.popleft() for _ in range(count)]

    def restore(self, lines: list[str]) -> None:
        """Put lines back that `take` gave and nobody received."""
        with self._lock:
            self._waiting.extendleft(reversed(lines))

    @property
    def waiting(self) -> int:
        """How many lines are still to be sent."""
        return len(self._waiting)

    @property
    def last(self) -> list[str]:
        """The last lines, sent or not."""
        with self._lock:
            return list(self._last)
