"""Tools of the gateway's programs: a batcher of concurrent calls, and loops that survive errors."""

import asyncio
import contextvars
import logging
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from craft.errors import CraftError, Unavailable

MAX_BATCH = 16
"""Items of one call: the first of them waits for the last."""
_MAX_WAIT_SECONDS = 10.0
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class _Waiting(NamedTuple, Generic[ItemT, ResultT]):
    item: ItemT
    result: asyncio.Future[ResultT]
    timeout: asyncio.TimerHandle | None


class Batcher(Generic[ItemT, ResultT]):
    """Makes one call at a time, in a thread; items that come while it runs make up the next one.

    `call` answers each item, in order, with a result or an error; an error that it raises is every item's. It runs in
    an empty context, not in that of the first caller. Used on one event loop at a time.
    """

    def __init__(
        self,
        call: Callable[[Sequence[ItemT]], Sequence[ResultT | Exception]],
        *,
        max_batch: int | None = MAX_BATCH,
        min_interval_seconds: float = 0.0,
        max_wait_seconds: float | None = _MAX_WAIT_SECONDS,
        busy: str = "Too many callers wait.",
    ) -> None:
        """Without a `max_batch` all that waits goes into one call; without `max_wait_seconds` callers see to it.

        `min_interval_seconds` from one call's start to the next, so that more items share a call: an item that comes
        alone does not wait. `busy`: the message for items that wait longer than `max_wait_seconds`.
        """
        self._call = call
        self._max_batch = sys.maxsize if max_batch is None else max_batch
        self._min_interval_seconds = min_interval_seconds
        self._max_wait_seconds = max_wait_seconds
        self._busy = busy
        self._queue: deque[_Waiting[ItemT, ResultT]] = deque()
        self._work: asyncio.Task[None] | None = None
        self._next_at = 0.0
        """When the next call may begin, by the loop's clock."""
        # A thread of its own: calls do not wait for those of others.
        self._thread = CapacityLimiter(1)

    async def ask(self, item: ItemT) -> ResultT:
        """The answer of a call that begins later. Raises the item's error, or Unavailable after `max_wait_seconds`."""
        loop = asyncio.get_running_loop()
        # While a call hangs this is the only place that drops those who gave up; the first to come gave up first.
        while self._queue and self._queue[0].result.done():
            self._queue.popleft()
        result: asyncio.Future[ResultT] = loop.create_future()
        seconds = self._max_wait_seconds
        timeout = None if seconds is None else loop.call_later(seconds, self._refuse, result)
        self._queue.append(_Waiting(item, result, timeout))
        # A task that was cancelled before its first step never ends its own record: `done` says it.
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._work_through(), context=contextvars.Context())
        return await result

    async def _work_through(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._queue:
            if (early := self._next_at - clock()) > 0:
                await asyncio.sleep(early)
            self._next_at = clock() + self._min_interval_seconds
            if batch := self._next():
                await self._make(batch)

    def _next(self) -> list[_Waiting[ItemT, ResultT]]:
        batch: list[_Waiting[ItemT, ResultT]] = []
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue.popleft()
            if waiting.timeout is not None:
                waiting.timeout.cancel()
            if not waiting.result.done():
                batch.append(waiting)
        return batch

    async def _make(self, batch: Sequence[_Waiting[ItemT, ResultT]]) -> None:
        try:
            outcomes = await run_sync(self._call, [waiting.item for waiting in batch], limiter=self._thread)
            for waiting, outcome in zip(batch, outcomes, strict=True):
                _settle(waiting.result, outcome)
        except Exception as error:
            for waiting in batch:
                _settle(waiting.result, error)
        except BaseException:
            # This task itself is ended: no caller may wait for ever.
            for waiting in batch:
                waiting.result.cancel()
            raise

    def _refuse(self, result: asyncio.Future[ResultT]) -> None:
        # Without a limit the queue could only grow, and no item would be served in time.
        _settle(result, Unavailable(self._busy, hint="Try again in a few seconds; nothing was queued."))


def _settle(result: asyncio.Future[ResultT], outcome: ResultT | Exception) -> None:
    if result.done():
        return
    if isinstance(outcome, Exception):
        # No future takes a StopIteration.
        result.set_exception(RuntimeError(repr(outcome)) if isinstance(outcome, StopIteration) else outcome)
    else:
        result.set_result(outcome)


Pause = Callable[[float], Coroutine[None, None, None]]
"""Waits that many seconds."""
TROUBLE_SECONDS = 1.0
"""The pause of a loop whose step failed."""
_log = logging.getLogger("craft.coordinator")


class TroubleLog:
    """Logs once that a loop fails, and once that it works again, however often it tries in between.

    The log events are `{name}_in_trouble` and `{name}_recovered`, each with `fields`.
    """

    def __init__(self, logger: logging.Logger, name: str, **fields: str) -> None:
        self._logger = logger
        self._name = name
        self._fields = fields
        self._in_trouble = False

    def failed(self, error: Exception) -> None:
        """A step failed. The trace of our own errors tells nothing more than their message."""
        if not self._in_trouble:
            trace = None if isinstance(error, CraftError) else error
            fields = {**self._fields, "error": str(error)[:300]}
            self._logger.warning(f"{self._name}_in_trouble", extra=fields, exc_info=trace)
        self._in_trouble = True

    def worked(self) -> None:
        """A step ended without an error."""
        if self._in_trouble:
            self._logger.info(f"{self._name}_recovered", extra=self._fields)
        self._in_trouble = False


class Bell:
    """Ends the pause of one loop early. It may be rung from any thread, also before the loop runs."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def ring(self) -> None:
        """End the present pause, or the next one."""
        if self._loop is None:
            self._rung.set()
        else:
            self._loop.call_soon_threadsafe(self._rung.set)

    async def cut_short(self, pause: Coroutine[None, None, None]) -> None:
        """Wait until the pause is over or the bell is rung; rings since the last pause count once."""
        self._loop = asyncio.get_running_loop()
        waits = [asyncio.create_task(pause), asyncio.create_task(self._wait())]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        finally:
            for wait in waits:
                wait.cancel()
        self._rung.clear()

    async def _wait(self) -> None:
        await self._rung.wait()


@dataclass(frozen=True, slots=True)
class Loop:
    """Something to do again and again. `step` returns whether more is waiting; it may block and may raise.

    `bell`, where there is one, ends a pause of `idle_seconds` early.
    """

    name: str
    step: Callable[[], bool]
    idle_seconds: float
    bell: Bell | None = None


def after_first(first: Callable[[], None], step: Callable[[], bool]) -> Callable[[], bool]:
    """`step`, and before it `first` until that has been done once."""
    ahead = [first]

    def both() -> bool:
        if ahead:
            ahead[0]()
            ahead.clear()
        return step()

    return both


async def run_loop(loop: Loop, *, pause: Pause = asyncio.sleep) -> None:
    """Run the loop for ever. A step that fails is tried again a little later; trouble and its end are logged once."""
    trouble = TroubleLog(_log, "loop", loop=loop.name)
    while True:
        try:
            more = await asyncio.to_thread(loop.step)
        # Top level of the loop: no defect in one step may end the reaping of leases.
        except Exception as error:
            trouble.failed(error)
            await pause(TROUBLE_SECONDS)
            continue
        trouble.worked()
        if not more:
            pausing = pause(loop.idle_seconds)
            await (pausing if loop.bell is None else loop.bell.cut_short(pausing))
