"""Calls take turns, and whoever would wait too long is told so."""

import asyncio
import threading

import pytest

from craft.errors import NotFound, Unavailable
from craft_gateway.one_at_a_time import OneAtATime

PATIENCE_SECONDS = 20.0


def test_calls_run_one_after_another_in_the_order_in_which_they_came() -> None:
    turns, running, most, done = OneAtATime(), threading.Semaphore(0), 0, list[int]()
    at_once = 0

    def call(number: int) -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        running.acquire(timeout=0.01)
        done.append(number)
        at_once -= 1
        return number

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(turns.run(lambda n=number: call(n)) for number in range(20)))  # type: ignore[misc]

    assert asyncio.run(all_of_them()) == list(range(20))
    assert (most, done) == (1, list(range(20)))


def test_who_would_wait_too_long_is_refused_and_the_next_one_served() -> None:
    turns, gate = OneAtATime(longest_wait_seconds=0.05), threading.Event()

    async def two() -> None:
        slow = asyncio.create_task(turns.run(lambda: gate.wait(PATIENCE_SECONDS)))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="Too many"):
            await turns.run(lambda: True)
        gate.set()
        assert await slow
        assert await turns.run(lambda: 1) == 1

    asyncio.run(two())


def test_an_error_is_the_callers_and_frees_the_turn() -> None:
    turns = OneAtATime(longest_wait_seconds=0.05)

    def failing() -> None:
        raise NotFound("There is no such thing.")

    async def both() -> int:
        with pytest.raises(NotFound):
            await turns.run(failing)
        return await turns.run(lambda: 1)

    assert asyncio.run(both()) == 1


def test_one_who_goes_away_while_waiting_holds_up_nobody() -> None:
    turns, gate = OneAtATime(longest_wait_seconds=PATIENCE_SECONDS), threading.Event()

    async def three() -> int:
        slow = asyncio.create_task(turns.run(lambda: gate.wait(PATIENCE_SECONDS)))
        gone = asyncio.create_task(turns.run(lambda: True))
        await asyncio.sleep(0.01)
        gone.cancel()
        gate.set()
        assert await slow
        return await turns.run(lambda: 1)

    assert asyncio.run(three()) == 1
