"""The bytes and entity tag of `GET /craft/jobs/{id}`: many callers poll one job, and most polls find nothing new.

Polls that come while the database is asked share the next snapshot. A job's own part is made again only when the job
has changed; its queue state changes whenever any other job does.
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
from craft_gateway.job_views.queue_state import QueuedJob, QueueState, queue_state
from craft_gateway.scheduling.queue import QueueSnapshot

_MAX_JOBS = 2000
_ENDED_SECONDS = 30.0
"""An ended job's own part is made again after this time: the lifetime of its artifacts depends on other jobs."""
_MAX_POLLS = 1000
_THREADS = 2
_SNAPSHOT_INTERVAL_SECONDS = 0.005
"""So that of many polls more share a snapshot; a poll that comes alone does not wait."""
_MAX_WAIT_SECONDS = 10.0
_OF_QUEUE_STATE = frozenset(QueueState.model_fields)


class JobSnapshot(NamedTuple):
    """The versions of the jobs that exist, by id, and the queues at that moment."""

    versions: Mapping[str, Hashable]
    queues: QueueSnapshot


class Jobs(Protocol):
    """The part of `JobReader` that the cache calls, in threads."""

    def snapshot(self, job_ids: Collection[str]) -> JobSnapshot:
        """The versions of these jobs: one differs once its job or a stage of it has changed. Cheap."""
        ...

    def queued_job(self, job_id: str) -> tuple[JobView, QueuedJob]:
        """One job, and the facts that its queue state is made of. Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class JobResponse:
    """A job's representation: a `JobView` whose queue state comes last. `tag` is the SHA-256 (hex) of `content`."""

    content: bytes
    tag: str
    ended: bool


@dataclass(slots=True)
class _CachedJob:
    job_id: str
    version: Hashable
    made_at: float
    own: bytes
    """The view's JSON without its queue state and without the closing brace."""
    queued: QueuedJob
    latest: tuple[QueueSnapshot, JobResponse] | None = None
    """The response that was made last, with the snapshot that it was made for."""

    def response(self, queues: QueueSnapshot) -> JobResponse:
        """The job with its queue state in that snapshot."""
        if self.latest is None or self.latest[0] is not queues:
            position = queues.positions.get(self.job_id)
            state = queue_state(self.queued, position=position, device_owner=queues.device_owner, now=queues.at)
            content = b"%s,%s" % (self.own, state.model_dump_json().encode().removeprefix(b"{"))
            ended = self.queued.status.terminal
            self.latest = (queues, JobResponse(content, hashlib.sha256(content).hexdigest(), ended))
        return self.latest[1]


class JobResponseCache:
    """Responses for the jobs that were polled lately. Used on one event loop at a time."""

    def __init__(
        self,
        jobs: Jobs,
        *,
        most: int = _MAX_JOBS,
        max_polls: int = _MAX_POLLS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`most` jobs are kept, those that were polled last; `max_polls` polls may be under way at once."""
        self._jobs = jobs
        self._most = most
        self._most_polls = max_polls
        self._clock = clock
        self._polls = 0
        self._cached: OrderedDict[str, _CachedJob] = OrderedDict()
        self._making: dict[tuple[str, Hashable], asyncio.Task[_CachedJob]] = {}
        # Few threads: bursts of polls leave the interpreter to other requests.
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

        Raises Unavailable if too many wait, or for too long: a queue that only grows serves no poll in time.
        """
        if self._polls >= self._most_polls:
            raise _too_many()
        self._polls += 1
        try:
            async with asyncio.timeout(_MAX_WAIT_SECONDS):
                return await self._response(job_id)
        except TimeoutError:
            raise _too_many() from None
        finally:
            self._polls -= 1

    async def _response(self, job_id: str) -> JobResponse:
        # The version is read before the view: a change in between makes the next poll read the view again.
        snapshot = await self._snapshots.ask(job_id)
        version = snapshot.versions.get(job_id)
        if version is None:
            raise no_job()
        job = self._cached.get(job_id)
        if job is None or job.version != version or self._is_old(job):
            job = await self._make_once(job_id, version)
        self._cached[job_id] = job
        self._cached.move_to_end(job_id)
        while len(self._cached) > self._most:
            self._cached.popitem(last=False)
        return job.response(snapshot.queues)

    def _snapshot_for_all(self, job_ids: Sequence[str]) -> list[JobSnapshot]:
        return [self._jobs.snapshot(set(job_ids))] * len(job_ids)

    def _is_old(self, job: _CachedJob) -> bool:
        return job.queued.status.terminal and self._clock() - job.made_at >= _ENDED_SECONDS

    async def _make_once(self, job_id: str, version: Hashable) -> _CachedJob:
        """Make the job's own part once, however many ask for this version at once."""
        making = self._making.get((job_id, version))
        if making is None or making.get_loop() is not asyncio.get_running_loop():
            making = asyncio.create_task(self._make(job_id, version))
            self._making[job_id, version] = making
            making.add_done_callback(lambda _: self._making.pop((job_id, version), None))
        # A caller may go away while the others wait.
        return await asyncio.shield(making)

    async def _make(self, job_id: str, version: Hashable) -> _CachedJob:
        view, queued = await anyio.to_thread.run_sync(self._jobs.queued_job, job_id, limiter=self._threads)
        own = view.model_dump_json(exclude=set(_OF_QUEUE_STATE)).encode()
        return _CachedJob(job_id, version, self._clock(), own.removesuffix(b"}"), queued)


def _too_many() -> Unavailable:
    return Unavailable("Too many ask about jobs just now.", hint="Try again in a few seconds.")
