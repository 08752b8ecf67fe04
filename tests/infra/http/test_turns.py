"""Long work is bounded in all and for each team, nobody waits for ever, and no team takes the turns of another."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from anyio.to_thread import run_sync

from craft.errors import RateLimited, Unavailable
from craft.infra.http.turns import TurnLimits, Turns

LIMITS = TurnLimits(at_once=3, per_team=2, waiting_per_team=2, wait_seconds=10.0)


def turns(**changes: float) -> Turns:
    fields = {name: getattr(LIMITS, name) for name in LIMITS.__slots__}
    return Turns(TurnLimits(**{**fields, **changes}), work="uploads")


class Held:
    """Turns that are held until they are let go, and the order in which they came."""

    def __init__(self, of: Turns) -> None:
        self.of = of
        self.order: list[str] = []
        self._free: list[tuple[str, asyncio.Event]] = []

    async def hold(self, team: str) -> None:
        async with self.of.turn(team):
            self.order.append(team)
            free = asyncio.Event()
            self._free.append((team, free))
            await free.wait()

    async def let_go(self, team: str) -> None:
        """Let the longest-held turn of the team go."""
        found = next(each for each in self._free if each[0] == team)
        self._free.remove(found)
        found[1].set()
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def begun(*work: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(each) for each in work]
    await settled()
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def test_one_team_never_has_more_turns_than_its_share() -> None:
    async def main() -> None:
        held = Held(turns())
        async with begun(*(held.hold("a") for _ in range(4))):
            assert held.order == ["a", "a"]

    asyncio.run(main())


def test_another_team_has_its_turn_at_once_while_one_team_has_a_full_line() -> None:
    async def main() -> None:
        held = Held(turns())
        async with begun(*(held.hold("a") for _ in range(4)), held.hold("b")):
            assert held.order == ["a", "a", "b"]

    asyncio.run(main())


def test_the_team_that_exceeds_its_line_is_told_so_at_once() -> None:
    async def main() -> None:
        of = turns()
        held = Held(of)
        async with begun(*(held.hold("a") for _ in range(4))):
            with pytest.raises(RateLimited) as caught:
                async with of.turn("a"):
                    pytest.fail("there was a turn")
        assert caught.value.headers["Retry-After"] == "10"
        assert "uploads" in caught.value.message

    asyncio.run(main())


def test_who_waits_too_long_for_others_is_told_that_the_server_is_busy() -> None:
    async def main() -> None:
        of = turns(wait_seconds=0.02)
        held = Held(of)
        async with begun(held.hold("a"), held.hold("a"), held.hold("b")):
            with pytest.raises(Unavailable) as caught:
                async with of.turn("c"):
                    pytest.fail("there was a turn")
        assert caught.value.headers["Retry-After"] == "10"

    asyncio.run(main())


def test_who_waits_too_long_for_its_own_team_is_told_that_its_team_has_enough() -> None:
    async def main() -> None:
        of = turns(wait_seconds=0.02)
        held = Held(of)
        async with begun(held.hold("a"), held.hold("a")):
            with pytest.raises(RateLimited):
                async with of.turn("a"):
                    pytest.fail("there was a turn")

    asyncio.run(main())


def test_teams_take_turns_in_rotation_however_long_the_line_of_one_is() -> None:
    async def main() -> None:
        held = Held(turns(at_once=1, per_team=1, waiting_per_team=9))
        async with begun(*(held.hold("a") for _ in range(4)), *(held.hold("b") for _ in range(2)), held.hold("c")):
            for team in ("a", "a", "b", "c", "a", "b", "a"):
                await held.let_go(team)
        assert held.order == ["a", "a", "b", "c", "a", "b", "a"]

    asyncio.run(main())


@pytest.mark.parametrize("after_grant", [False, True])
def test_a_cancelled_caller_takes_no_turn_with_it(after_grant: bool) -> None:
    async def main() -> None:
        of = turns(at_once=1, per_team=1)
        held = Held(of)
        async with begun(held.hold("a"), held.hold("b")) as (_, waiting):
            if after_grant:
                held._free.pop()[1].set()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            waiting.cancel()
            await settled()
            if not after_grant:
                await held.let_go("a")
            async with asyncio.timeout(1), of.turn("c"):
                pass

    asyncio.run(main())


def test_nothing_is_remembered_of_teams_that_are_done() -> None:
    async def main() -> None:
        of = turns()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(of.turn("a"))
        assert not of._running
        assert not of._waiting

    asyncio.run(main())


def test_work_runs_in_threads_of_its_own_and_leaves_the_others_to_requests() -> None:
    free = threading.Event()

    def wait() -> None:
        free.wait(10)

    async def main() -> None:
        of = turns(at_once=60, per_team=60)
        async with begun(*(of.run("a", wait) for _ in range(60))):
            async with asyncio.timeout(5):
                assert await run_sync(lambda: "answered") == "answered"
            free.set()
            await asyncio.sleep(0.05)

    asyncio.run(main())


def test_the_result_and_the_error_of_the_work_are_the_callers() -> None:
    def fails() -> None:
        raise ValueError("it failed")

    async def main() -> None:
        of = turns()
        assert await of.run("a", divmod, 7, 3) == (2, 1)
        with pytest.raises(ValueError, match="it failed"):
            await of.run("a", fails)
        assert not of._running

    asyncio.run(main())
