"""Sends batches of requests so that the next batch begins while the last requests of the one before are answered."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

from craft_inference.vllm.client import CompletionRequest

_BEGUN = 2
"""Batches that are begun and not given yet, at most: what a killed process has to ask again."""
Send = Callable[[CompletionRequest], Awaitable[Any]]


class Answered(NamedTuple):
    """A batch, and the responses in the order of its requests."""

    requests: Sequence[CompletionRequest]
    responses: list[Any]

    @property
    def pairs(self) -> Iterator[tuple[CompletionRequest, Any]]:
        """Each request with its response."""
        return zip(self.requests, self.responses, strict=True)


class BatchStream:
    """Asks batches of requests in order, with at most `in_flight` requests at a time.

    `on_answer` is called with (requests answered, requests begun) after each response. What it raises, and what a
    request raises, ends the stream.
    """

    def __init__(
        self,
        batches: Iterator[Sequence[CompletionRequest]],
        send: Send,
        *,
        in_flight: int,
        on_answer: Callable[[int, int], None],
    ) -> None:
        self._batches = batches
        self._send = send
        self._slots = asyncio.Semaphore(in_flight)
        self._on_answer = on_answer
        self._answered = self._asked = 0
        self._begun: deque[asyncio.Task[Answered]] = deque()
        self._beginning: asyncio.Task[bool] | None = None
        self._at_end = False

    async def answered(self) -> AsyncGenerator[Answered, None]:
        """The batches with their responses, in order. Close the generator to end what is under way."""
        try:
            await self._begin()
            while self._begun:
                if not self._begun[0].done():
                    await self._wait()
                    continue
                yield self._begun.popleft().result()
                if not self._begun and not self._at_end:
                    await self._begin()
        finally:
            await self._cancel()

    async def _wait(self) -> None:
        """Wait until the first batch is answered, another one fails, or a next one has begun."""
        if len(self._begun) < _BEGUN and not self._at_end and self._beginning is None:
            self._beginning = asyncio.create_task(self._begin_in_turn())
        under_way = [task for task in (*self._begun, self._beginning) if task is not None and not task.done()]
        await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        for task in (*self._begun, self._beginning):
            if task is not None and task.done():
                task.result()  # raises what ended it
        if self._beginning is not None and self._beginning.done():
            self._beginning = None

    async def _begin_in_turn(self) -> bool:
        # The semaphore is fair: this turn comes when every request of the batches before has been sent.
        async with self._slots:
            pass
        return await self._begin()

    async def _begin(self) -> bool:
        requests = next(self._batches, None)
        if requests is None:
            self._at_end = True
            return False
        self._asked += len(requests)
        self._begun.append(asyncio.create_task(self._ask(requests)))
        await asyncio.sleep(0)  # its requests stand in the line before whoever asks for a turn next
        return True

    async def _ask(self, requests: Sequence[CompletionRequest]) -> Answered:
        asking = [asyncio.create_task(self._ask_one(request)) for request in requests]
        try:
            return Answered(requests, list(await asyncio.gather(*asking)))
        finally:
            await _end(asking)

    async def _ask_one(self, request: CompletionRequest) -> Any:
        async with self._slots:
            response = await self._send(request)
        self._answered += 1
        self._on_answer(self._answered, self._asked)
        return response

    async def _cancel(self) -> None:
        await _end([*self._begun, *([] if self._beginning is None else [self._beginning])])


async def _end(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    """Cancel the tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
