"""The bytes and entity tag of `GET /craft/jobs/{id}`: many callers poll one job, and most polls find nothing new.

A job's own part is made anew only when the job has changed. Its standing among the others moves whenever any of them
does, and is put in at every call: it costs no query.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

import anyio
import anyio.to_thread

from craft.contracts.views import JobView
from craft.errors import Unavailable
from craft_gateway.views_standing import Standing, Waiter, standing
from craft_gateway.waiting_line import Line

_MOST = 2000
_ENDED_SECONDS = 30.0
"""An ended job's part is made anew after this time: how long what it made is kept depends on other jobs."""
_MOST_POLLS = 1000
_THREADS = 2
_LONGEST_WAIT_SECONDS = 10.0
_OF_STANDING = frozenset(Standing.model_fields)


class Jobs(Protocol):
    """What is asked of `views_reading.Reader`. Both calls with an id raise NotFound."""

    def version(self, job_id: str) -> Hashable:
        """Differs once the job or a stage of it has changed; cheap."""
        ...

    def waiter(self, job_id: str) -> tuple[JobView, Waiter]:
        """One job, and what its standing is made of."""
        ...

    def line(self) -> Line:
        """Who waits for what; cheap."""
        ...


@dataclass(frozen=True, slots=True)
class JobBody:
    """A job's representation: a `JobView` whose standing comes last. `tag` is the SHA-256 (hex) of `content`."""

    content: bytes
    tag: str
    ended: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    version: Hashable
    made_at: float
    own: bytes
    """The view's JSON without its standing and without the closing brace."""
    waiter: Waiter


class JobBodies:
    """Bodies of the jobs that were asked for lately; safe to use from several threads."""

    def __init__(
        self,
        jobs: Jobs,
        *,
        most: int = _MOST,
        most_polls: int = _MOST_POLLS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Of the jobs that were asked for last, `most` are kept; `most_polls` may be under way at once."""
        self._jobs = jobs
        self._most = most
        self._most_polls = most_polls
        self._polls = 0
        self._clock = clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def polled(self, job_id: str) -> JobBody:
        """`body`, in one of few threads: bursts of polls wait in line and leave the interpreter to those at work.

        Raises Unavailable where too many wait, or for too long: a line that only grows serves nobody in time.
        """
        if self._polls >= self._most_polls:
            raise _too_many()
        self._polls += 1
        try:
            with anyio.fail_after(_LONGEST_WAIT_SECONDS):
                return await anyio.to_thread.run_sync(self.body, job_id, limiter=self._threads)
        except TimeoutError:
            raise _too_many() from None
        finally:
            self._polls -= 1

    def body(self, job_id: str) -> JobBody:
        """The job as it is now. Raises NotFound."""
        # The version is read before the view: a change in between makes the next caller look again.
        version = self._jobs.version(job_id)
        with self._lock:
            kept = self._kept.get(job_id)
        if kept is None or kept.version != version or self._is_old(kept):
            kept = self._made(job_id, version)
        with self._lock:
            self._kept[job_id] = kept
            self._kept.move_to_end(job_id)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return self._whole(job_id, kept)

    def _is_old(self, kept: _Kept) -> bool:
        return kept.waiter.status.terminal and self._clock() - kept.made_at >= _ENDED_SECONDS

    def _made(self, job_id: str, version: Hashable) -> _Kept:
        view, waiter = self._jobs.waiter(job_id)
        own = view.model_dump_json(exclude=set(_OF_STANDING)).encode()
        return _Kept(version, self._clock(), own.removesuffix(b"}"), waiter)

    def _whole(self, job_id: str, kept: _Kept) -> JobBody:
        line = self._jobs.line()
        stands = standing(kept.waiter, place=line.places.get(job_id), holder=line.holder, now=line.at)
        content = b"%s,%s" % (kept.own, stands.model_dump_json().encode().removeprefix(b"{"))
        return JobBody(content, hashlib.sha256(content).hexdigest(), kept.waiter.status.terminal)


def _too_many() -> Unavailable:
    return Unavailable("Too many ask about jobs just now.", hint="Try again in a few seconds.")
