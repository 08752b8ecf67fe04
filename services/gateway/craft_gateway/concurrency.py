"""Two tools of the gateway's programs: a batcher of concurrent calls, and a loop that survives errors."""

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from anyio.to_thread import run_sync

from craft.errors import CraftError, Unavailable

MAX_BATCH = 16
"""Items of one call: the first of them waits for the last."""
_MAX_WAIT_SECONDS = 10.0
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[ItemT, ResultT]):
    item: ItemT
    result: asyncio.Future[ResultT]
    patience: asyncio.TimerHandle


class Batcher(Generic[ItemT, ResultT]):
    """One call at a time, in a thread and in nobody's context; what comes meanwhile makes up the next one.

    `call` answers for each item with a result or an error. What it raises is every item's. Used on one event loop.
    """

    def __init__(
        self,
        call: Callable[[Sequence[ItemT]], Sequence[ResultT | Exception]],
        *,
        busy: str,
        longest_wait_seconds: float = _MAX_WAIT_SECONDS,
    ) -> None:
        """`busy`: what whoever would wait for longer is told."""
        self._call = call
        self._busy = busy
        self._longest_wait_seconds = longest_wait_seconds
        self._line: deque[_Waiting[ItemT, ResultT]] = deque()
        self._at_work: asyncio.Task[None] | None = None

    async def ask(self, item: ItemT) -> ResultT:
        """Raises the item's error, or Unavailable where its turn does not come in time."""
        loop = asyncio.get_running_loop()
        # While a call hangs nobody else drops those who gave up; the first to come are the first to do so.
        while self._line and self._line[0].result.done():
            self._line.popleft()
        result: asyncio.Future[ResultT] = loop.create_future()
        patience = loop.call_later(self._longest_wait_seconds, self._refuse, result)
        self._line.append(_Waiting(item, result, patience))
        if self._at_work is None:
            self._at_work = loop.create_task(self._work(), context=contextvars.Context())
        return await result

    async def _work(self) -> None:
        try:
            while self._line:
                if batch := self._next():
                    await self._do(batch)
        finally:
            self._at_work = None

    def _next(self) -> list[_Waiting[ItemT, ResultT]]:
        batch: list[_Waiting[ItemT, ResultT]] = []
        while self._line and len(batch) < MAX_BATCH:
            waiting = self._line.popleft()
            waiting.patience.cancel()
            if not waiting.result.done():
                batch.append(waiting)
        return batch

    async def _do(self, batch: Sequence[_Waiting[ItemT, ResultT]]) -> None:
        try:
            outcomes = await run_sync(self._call, [waiting.item for waiting in batch])
            for waiting, outcome in zip(batch, outcomes, strict=True):
                _settle(waiting.result, outcome)
        except Exception as error:
            for waiting in batch:
                _settle(waiting.result, error)
        finally:
            # Where this task itself is ended nobody may wait for ever.
            for waiting in batch:
                waiting.result.cancel()

    def _refuse(self, result: asyncio.Future[ResultT]) -> None:
        # A line that only grows serves nobody.
        _settle(result, Unavailable(self._busy, hint="Try again in a few seconds; nothing was queued."))


def _settle(result: asyncio.Future[ResultT], outcome: ResultT | Exception) -> None:
    if result.done():
        return
    if isinstance(outcome, StopIteration):
        outcome = RuntimeError(repr(outcome))  # no future takes that one
    if isinstance(outcome, Exception):
        result.set_exception(outcome)
    else:
        result.set_result(outcome)


Pause = Callable[[float], Awaitable[None]]
"""Waits that many seconds."""
_TROUBLE_SECONDS = 1.0
_log = logging.getLogger("craft.coordinator")


@dataclass(frozen=True, slots=True)
class Loop:
    """Something to do again and again. `step` returns whether more is waiting; it may block and may raise."""

    name: str
    step: Callable[[], bool]
    idle_seconds: float


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
    """Run the loop for ever. Whatever fails is tried again a little later; trouble is logged once, and its end."""
    troubled = False
    while True:
        try:
            more = await asyncio.to_thread(loop.step)
        # The edge of the process: no defect in one step may end the reaping of leases.
        except Exception as error:
            if not troubled:
                trace = None if isinstance(error, CraftError) else error
                _log.warning("loop_in_trouble", extra={"loop": loop.name, "error": str(error)[:300]}, exc_info=trace)
            troubled = True
            await pause(_TROUBLE_SECONDS)
            continue
        if troubled:
            _log.info("loop_recovered", extra={"loop": loop.name})
            troubled = False
        if not more:
            await pause(loop.idle_seconds)
