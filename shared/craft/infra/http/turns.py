"""Bounds long work: little of it runs at once, in all and for each team, and few callers wait for their turn.

Work of one kind has threads of its own, so that it never holds those of other requests.
"""

import asyncio
import functools
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from craft.errors import RateLimited, Unavailable

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
_RETRY_AFTER = {"Retry-After": "10"}


@dataclass(frozen=True, slots=True)
class TurnLimits:
    """The most that runs at once, the same for one team, and how many of a team wait, each for how long at most."""

    at_once: int
    per_team: int
    waiting_per_team: int
    wait_seconds: float


class Turns:
    """Gives turns to callers: in order within a team, and in rotation between teams. Used on one event loop."""

    def __init__(self, limits: TurnLimits, *, work: str) -> None:
        """`work` names the work in errors, such as "uploads"."""
        self._limits = limits
        self._work = work
        self._running = Counter[str]()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """By team, in the order of the rotation; a team without a waiting caller has no entry."""
        self._threads = CapacityLimiter(limits.at_once)

    async def run(self, team: str, work: Callable[P, ResultT], /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        """The result of `work`, which runs in a thread once it is the team's turn. Raises what `turn` raises."""
        async with self.turn(team):
            return await run_sync(functools.partial(work, *args, **kwargs), limiter=self._threads)

    @asynccontextmanager
    async def turn(self, team: str) -> AsyncIterator[None]:
        """A turn of the team, for as long as the block lasts.

        Raises RateLimited where too much of the team runs and waits, Unavailable where others took too long.
        """
        await self._take(team)
        try:
            yield
        finally:
            self._give_back(team)

    async def _take(self, team: str) -> None:
        if team not in self._waiting and self._is_free(team):
            self._running[team] += 1
            return
        if len(self._waiting.get(team, ())) >= self._limits.waiting_per_team:
            raise self._refusal(team)
        granted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(team, deque()).append(granted)
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await granted
        except TimeoutError:
            # The turn may have come in the same moment.
            if not _is_granted(granted):
                raise self._refusal(team) from None
        except BaseException:
            if _is_granted(granted):
                self._give_back(team)
            raise
        finally:
            self._forget(team, granted)

    def _is_free(self, team: str) -> bool:
        return self._running.total() < self._limits.at_once and self._running[team] < self._limits.per_team

    def _give_back(self, team: str) -> None:
        self._running[team] -= 1
        if not self._running[team]:
            del self._running[team]
        for next_team in list(self._waiting):
            self._grant(next_team)

    def _grant(self, team: str) -> None:
        line = self._waiting[team]
        while line and self._is_free(team):
            granted = line.popleft()
            if granted.done():
                continue
            self._running[team] += 1
            granted.set_result(None)
            self._waiting.move_to_end(team)
            break
        if not line:
            del self._waiting[team]

    def _forget(self, team: str, granted: "asyncio.Future[None]") -> None:
        line = self._waiting.get(team)
        if line is not None and granted in line:
            line.remove(granted)
            if not line:
                del self._waiting[team]

    def _refusal(self, team: str) -> RateLimited | Unavailable:
        if self._running[team] >= self._limits.per_team:
            return RateLimited(
                f"Your team has {self._limits.per_team} {self._work} under way, and no more can wait.",
                hint="Send the next one when one of these has been answered.",
                headers=_RETRY_AFTER,
            )
        return Unavailable(
            f"Too many {self._work} are under way just now.",
            hint="Nothing was kept; send it again in some seconds.",
            headers=_RETRY_AFTER,
        )


def _is_granted(granted: "asyncio.Future[None]") -> bool:
    return granted.done() and not granted.cancelled()
