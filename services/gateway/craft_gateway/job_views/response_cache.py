"""The bytes and entity tag of `GET /craft/jobs/{id}`: many callers poll one job, and most polls find nothing new.

Polls that come while the database is asked wait for the next question, which is one for all of them. A job's own part
is made anew only when the job has changed; its standing among the others moves whenever any of them does.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import anyio
import anyio.to_thread

from craft.contracts.public.jobs import JobView
from craft.errors import Unavailable
from craft_gateway.access.owners import no_job
from craft_gateway.concurrency import Batcher
from craft_gateway.job_views.queue_state import QueuedJob, QueueState, standing
from craft_gateway.scheduling.queue import QueueSnapshot

_MOST = 2000
_ENDED_SECONDS = 30.0
"""An ended job's part is made anew after this time: how long what it made is kept depends on other jobs."""
_MOST_POLLS = 1000
_THREADS = 2
_SNAPSHOT_INTERVAL_SECONDS = 0.005
"""So that of many polls more share a snapshot; a poll that comes alone does not wait."""
_LONGEST_WAIT_SECONDS = 10.0
_OF_STANDING = frozenset(QueueState.model_fields)


class JobSnapshot(NamedTuple):
    """What one question tells: the versions of the jobs that exist, and who waits for what."""

    versions: Mapping[str, Hashable]
    line: QueueSnapshot


class Jobs(Protocol):
    """What is asked of `views_reading.Reader`, in threads."""

    def look(self, job_ids: Collection[str]) -> JobSnapshot:
        """A version differs once its job or a stage of it has changed. Cheap."""
        ...

    def waiter(self, job_id: str) -> tuple[JobView, QueuedJob]:
        """One job, and what its standing is made of. Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class JobResponse:
    """A job's representation: a `JobView` whose standing comes last. `tag` is the SHA-256 (hex) of `content`."""

    content: bytes
    tag: str
    ended: bool


@dataclass(slots=True)
class _CachedJob:
    job_id: str
    version: Hashable
    made_at: float
    own: bytes
    """The view's JSON without its standing and without the closing brace."""
    waiter: QueuedJob
    whole: tuple[QueueSnapshot, JobResponse] | None = None

    def body(self, line: QueueSnapshot) -> JobResponse:
        """With its standing in that line."""
        if self.whole is None or self.whole[0] is not line:
            stands = standing(self.waiter, place=line.positions.get(self.job_id), holder=line.holder, now=line.at)
            content = b"%s,%s" % (self.own, stands.model_dump_json().encode().removeprefix(b"{"))
            ended = self.waiter.status.terminal
            self.whole = (line, JobResponse(content, hashlib.sha256(content).hexdigest(), ended))
        return self.whole[1]


class JobResponseCache:
    """Bodies of the jobs that were asked for lately. Used on one event loop at a time."""

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
        self._clock = clock
        self._polls = 0
        self._kept: OrderedDict[str, _CachedJob] = OrderedDict()
        self._making: dict[tuple[str, Hashable], asyncio.Task[_CachedJob]] = {}
        # Few threads: bursts of polls leave the interpreter to those at work.
        self._threads = anyio.CapacityLimiter(_THREADS)
        # `polled` sees to the longest wait, which spans the making of the view too.
        self._snapshots = Batcher(
            self._snapshot_for_all,
            max_batch=None,
            min_interval_seconds=_SNAPSHOT_INTERVAL_SECONDS,
            max_wait_seconds=None,
        )

    async def polled(self, job_id: str) -> JobResponse:
        """The job as it is now, or was after this call began. Raises NotFound.

        Raises Unavailable where too many wait, or for too long: a line that only grows serves nobody in time.
        """
        if self._polls >= self._most_polls:
            raise _too_many()
        self._polls += 1
        try:
            async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                return await self._body(job_id)
        except TimeoutError:
            raise _too_many() from None
        finally:
            self._polls -= 1

    async def _body(self, job_id: str) -> JobResponse:
        # The version is read before the view: a change in between makes the next caller look again.
        snapshot = await self._snapshots.ask(job_id)
        version = snapshot.versions.get(job_id)
        if version is None:
            raise no_job()
        kept = self._kept.get(job_id)
        if kept is None or kept.version != version or self._is_old(kept):
            kept = await self._made_once(job_id, version)
        self._kept[job_id] = kept
        self._kept.move_to_end(job_id)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return kept.body(snapshot.line)

    def _snapshot_for_all(self, job_ids: Sequence[str]) -> list[JobSnapshot]:
        return [self._jobs.look(set(job_ids))] * len(job_ids)

    def _is_old(self, kept: _CachedJob) -> bool:
        return kept.waiter.status.terminal and self._clock() - kept.made_at >= _ENDED_SECONDS

    async def _made_once(self, job_id: str, version: Hashable) -> _CachedJob:
        """However many ask for this state of the job at once."""
        making = self._making.get((job_id, version))
        if making is None or making.get_loop() is not asyncio.get_running_loop():
            making = asyncio.create_task(self._made(job_id, version))
            self._making[job_id, version] = making
            making.add_done_callback(lambda _: self._making.pop((job_id, version), None))
        # One of them may go away while the others wait.
        return await asyncio.shield(making)

    async def _made(self, job_id: str, version: Hashable) -> _CachedJob:
        view, waiter = await anyio.to_thread.run_sync(self._jobs.waiter, job_id, limiter=self._threads)
        own = view.model_dump_json(exclude=set(_OF_STANDING)).encode()
        return _CachedJob(job_id, version, self._clock(), own.removesuffix(b"}"), waiter)


def _too_many() -> Unavailable:
    return Unavailable("Too many ask about jobs just now.", hint="Try again in a few seconds.")
