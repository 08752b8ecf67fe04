"""Work that gains nothing from several threads: they would only take turns at the interpreter and the database."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from craft.errors import Unavailable

_LONGEST_WAIT_SECONDS = 10.0
ResultT = TypeVar("ResultT")


class OneAtATime:
    """Runs one call after another, each in a thread."""

    def __init__(self, *, longest_wait_seconds: float = _LONGEST_WAIT_SECONDS) -> None:
        self._turns = CapacityLimiter(1)
        self._longest_wait_seconds = longest_wait_seconds

    async def run(self, call: Callable[[], ResultT]) -> ResultT:
        """Raises Unavailable where the turn does not come in time: a line that only grows serves nobody."""
        turn = object()
        try:
            async with asyncio.timeout(self._longest_wait_seconds):
                await self._turns.acquire_on_behalf_of(turn)
        except TimeoutError:
            raise Unavailable(
                "Too many jobs are being submitted just now.", hint="Try again in a few seconds; nothing was queued."
            ) from None
        try:
            return await run_sync(call)
        finally:
            self._turns.release_on_behalf_of(turn)
