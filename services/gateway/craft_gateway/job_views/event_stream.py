"""The live event stream: replay from the event table, then follow. One poll of the database serves all clients."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Protocol

from starlette.concurrency import run_in_threadpool

from craft.contracts.public.jobs import EventView

PAGE = 100
"""Events that a stream reads at once, and so the most that it holds for a client that does not read on."""
_BUFFERED_EVENTS = 256
_RECONNECT_MS = 2000
_log = logging.getLogger("craft.gateway.sse")
Admitted = Callable[[], Awaitable[bool]]
"""True if the reader of a stream may still read it."""


class EventSource(Protocol):
    """The source of events: the event table, or a fake. Called from a thread pool."""

    def events(self, job_id: str, *, after: int, limit: int) -> Sequence[EventView]:
        """The job's events with `seq` above `after`, in order."""
        ...

    def newer(self, heads: Mapping[str, int]) -> Mapping[str, Sequence[EventView]]:
        """For each job the events above the sequence number given; jobs without any may be left out."""
        ...

    def heads(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        """Each job's latest sequence number."""
        ...


class Subscription:
    """One client's view of one job's new events."""

    def __init__(self) -> None:
        # A slow client loses the oldest; the stream sees the gap in the numbers and reads the table.
        self._events: deque[EventView] = deque(maxlen=_BUFFERED_EVENTS)
        self._arrived = asyncio.Event()

    def push(self, events: Sequence[EventView]) -> None:
        """New events of the job; called on the event loop."""
        self._events.extend(events)
        self._arrived.set()

    async def take(self, timeout_seconds: float) -> list[EventView] | None:
        """Wait for events since the last call and give them; None when time is up.

        Empty where it was woken to look for itself.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._arrived.wait()
        except TimeoutError:
            return None
        self._arrived.clear()
        taken = list(self._events)
        self._events.clear()
        return taken


class EventFeed:
    """Polls for the jobs that somebody watches, and hands what is new to all who watch them.

    `check_seconds` is how often each stream asks whether its reader may still read.
    """

    def __init__(self, source: EventSource, *, poll_seconds: float = 0.2, check_seconds: float = 1.0) -> None:
        self.source = source
        self.check_seconds = check_seconds
        self._poll_seconds = poll_seconds
        self._watched: dict[str, set[Subscription]] = {}
        self._heads: dict[str, int] = {}
        self._wanted = asyncio.Event()
        self.closed = False

    @property
    def watched(self) -> int:
        """The number of jobs that are watched now."""
        return len(self._watched)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Poll in the background for as long as the block lasts."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @contextmanager
    def watch(self, job_id: str) -> Iterator[Subscription]:
        """Subscribe to a job's events from now on."""
        subscription = Subscription()
        self._watched.setdefault(job_id, set()).add(subscription)
        self._wanted.set()
        try:
            yield subscription
        finally:
            watchers = self._watched[job_id]
            watchers.discard(subscription)
            if not watchers:
                del self._watched[job_id]
                self._heads.pop(job_id, None)

    def close(self) -> None:
        """Wake all who watch so that they end: the server stops. Clients come back to the next one by themselves."""
        self.closed = True
        for job_id in self._watched:
            self._push(job_id, [])

    async def _run(self) -> None:
        while True:
            if not self._watched:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                await self._poll()
            except Exception:
                # The database may be away for a while; streams stay open and go on from where they were.
                _log.warning("event_poll_failed", exc_info=True)
            await asyncio.sleep(self._poll_seconds)

    async def _poll(self) -> None:
        fresh = [job_id for job_id in self._watched if job_id not in self._heads]
        if fresh:
            found = await run_in_threadpool(self.source.heads, fresh)
            for job_id in fresh:
                if job_id in self._watched:
                    self._heads[job_id] = found.get(job_id, 0)
                    # Events between a subscriber's replay and this head are in no batch: let it look for itself.
                    self._push(job_id, [])
        known = {job_id: head for job_id, head in self._heads.items() if job_id in self._watched}
        if not known:
            return
        for job_id, events in (await run_in_threadpool(self.source.newer, known)).items():
            if events and job_id in self._heads:
                self._heads[job_id] = max(self._heads[job_id], events[-1].seq)
                self._push(job_id, events)

    def _push(self, job_id: str, events: Sequence[EventView]) -> None:
        for subscription in self._watched.get(job_id, ()):
            subscription.push(events)


async def anybody() -> bool:
    """Admits every reader, without end."""
    return True


async def stream(
    feed: EventFeed,
    job_id: str,
    *,
    after: int,
    last: int | None = None,
    admitted: Admitted = anybody,
    ping_seconds: float = 15.0,
) -> AsyncGenerator[bytes, None]:
    """A job's events after a sequence number as text/event-stream, until its terminal event or the feed's close.

    It ends as quietly, some seconds later, where its reader is no longer `admitted`: who comes back hears why.
    Of a job that had ended before, `last` is the number of its last event: an adapter's come after the terminal one.

    Every event once and in order, whatever the feed drops or repeats: the numbers have no gaps, so a gap is read from
    the table. A comment line goes out when there was nothing to say for `ping_seconds`.
    """
    yield f"retry: {_RECONNECT_MS}\n\n".encode()
    with feed.watch(job_id) as subscription:
        batch: Sequence[EventView] | None = ()
        clock = asyncio.get_running_loop().time
        ping_at, check_at = clock() + ping_seconds, clock() + feed.check_seconds
        while True:
            if clock() >= check_at:
                if not await admitted():
                    return
                check_at = clock() + feed.check_seconds
            if batch is not None:
                new = await _unseen(feed.source, job_id, batch, after=after)
                for event in new:
                    yield encode(event)
                    after = event.seq
                    ping_at = clock() + ping_seconds
                if feed.closed or _is_end(new, after=after, last=last):
                    return
                if len(new) == PAGE:
                    batch = ()
                    continue
            batch = await subscription.take(max(0.0, min(ping_at, check_at) - clock()))
            # It may have been woken for nothing: that is no silence yet.
            if not batch and clock() >= ping_at:
                yield b": ping\n\n"
                ping_at = clock() + ping_seconds


async def _unseen(source: EventSource, job_id: str, batch: Sequence[EventView], *, after: int) -> Sequence[EventView]:
    """The next events after `after`: the batch's, or the table's where the batch does not go on from there."""
    new = [event for event in batch if event.seq > after]
    if new and new[0].seq == after + 1:
        return new
    return await run_in_threadpool(source.events, job_id, after=after, limit=PAGE)


def _is_end(new: Sequence[EventView], *, after: int, last: int | None) -> bool:
    return after >= last if last is not None else any(event.type.terminal for event in new)


def encode(event: EventView) -> bytes:
    """One event in the wire form; JSON has no raw line breaks, so one data line is enough."""
    return f"id: {event.seq}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()
