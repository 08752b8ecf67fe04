"""How many requests a second each caller may make of this process: a token bucket for each."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from craft.errors import RateLimited

_MOST_CALLERS = 10_000


class RateLimits:
    """Buckets of `burst` requests that fill at `per_second`. None is no limit."""

    def __init__(self, per_second: float | None, *, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """One request. Raises RateLimited, which says when the next is free. Call it from one thread."""
        if self._per_second is None:
            return
        now = self._clock()
        left, at = self._buckets.pop(caller, (float(self._burst), now))
        left = min(float(self._burst), left + (now - at) * self._per_second)
        self._buckets[caller] = (left - 1.0 if left >= 1.0 else left, now)
        # Who was heard of longest ago has a full bucket by now, or soon.
        while len(self._buckets) > _MOST_CALLERS:
            self._buckets.popitem(last=False)
        if left < 1.0:
            raise RateLimited(
                f"More than {self._per_second:g} requests a second with one key.",
                retry_after_seconds=max(1, math.ceil((1.0 - left) / self._per_second)),
                hint="Ask less often: `GET /craft/jobs/{id}?wait=30` waits for news, and so do the job's events.",
            )
