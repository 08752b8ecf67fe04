"""Calls that would wait for one another are made as one: what each costs by itself is then paid once for many."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from anyio.to_thread import run_sync

from craft.errors import Unavailable

MOST = 16
"""Items of one call: the first of them waits for the last."""
_LONGEST_WAIT_SECONDS = 10.0
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[ItemT, ResultT]):
    item: ItemT
    result: asyncio.Future[ResultT]
    patience: asyncio.TimerHandle


class Together(Generic[ItemT, ResultT]):
    """One call at a time, in a thread and in nobody's context; what comes meanwhile makes up the next one.

    `call` answers for each item with a result or an error. What it raises is every item's.
    """

    def __init__(
        self,
        call: Callable[[Sequence[ItemT]], Sequence[ResultT | Exception]],
        *,
        longest_wait_seconds: float = _LONGEST_WAIT_SECONDS,
    ) -> None:
        self._call = call
        self._longest_wait_seconds = longest_wait_seconds
        self._line: deque[_Waiting[ItemT, ResultT]] = deque()
        self._at_work: asyncio.Task[None] | None = None

    async def ask(self, item: ItemT) -> ResultT:
        """Raises the item's error, or Unavailable where its turn does not come in time.

        Whoever gives up while waiting leaves nothing behind.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[ResultT] = loop.create_future()
        patience = loop.call_later(self._longest_wait_seconds, _refuse, result)
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
        while self._line and len(batch) < MOST:
            waiting = self._line.popleft()
            waiting.patience.cancel()
            if not waiting.result.done():
                batch.append(waiting)
        return batch

    async def _do(self, batch: Sequence[_Waiting[ItemT, ResultT]]) -> None:
        outcomes: Sequence[ResultT | Exception]
        try:
            outcomes = await run_sync(self._call, [waiting.item for waiting in batch])
        except Exception as error:
            outcomes = [error] * len(batch)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.result.done():
                continue
            if isinstance(outcome, Exception):
                waiting.result.set_exception(outcome)
            else:
                waiting.result.set_result(outcome)


def _refuse(result: asyncio.Future[ResultT]) -> None:
    # A line that only grows serves nobody.
    if not result.done():
        result.set_exception(
            Unavailable(
                "Too many jobs are being submitted just now.", hint="Try again in a few seconds; nothing was queued."
            )
        )
