"""Calls that come at once are made as one; an item that would wait too long is refused."""

import asyncio
import threading
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from craft.errors import NotFound, Unavailable
from craft_gateway.concurrency import MAX_BATCH, Batcher

PATIENCE_SECONDS = 20.0
GATE = "gate"
BUSY = "Too many ask."
_asking = ContextVar("asking", default="nobody")


class Call:
    """Doubles numbers and refuses negative ones; at `GATE` it waits for the gate."""

    def __init__(self) -> None:
        self.batches: list[list[object]] = []
        self.gate = threading.Event()
        self.begun = threading.Event()

    def __call__(self, items: Sequence[int | str]) -> list[int | Exception]:
        self.batches.append([*items])
        self.begun.set()
        if GATE in items:
            assert self.gate.wait(PATIENCE_SECONDS)
        return [self._one(item) for item in items]

    def _one(self, item: int | str) -> int | Exception:
        if item == GATE:
            return 0
        return NotFound("There is no such thing.") if int(item) < 0 else 2 * int(item)


async def _begun(call: Call) -> None:
    while not call.begun.is_set():
        await asyncio.sleep(0.001)


def test_what_comes_while_a_call_is_under_way_makes_up_the_next_ones() -> None:
    call = Call()
    batcher = Batcher(call, busy=BUSY)

    async def all_of_them() -> list[int]:
        first = asyncio.create_task(batcher.ask(GATE))
        await _begun(call)
        others = [asyncio.create_task(batcher.ask(number)) for number in range(MAX_BATCH + 3)]
        await asyncio.sleep(0)
        call.gate.set()
        return [await first, *(await asyncio.gather(*others))]

    assert asyncio.run(all_of_them()) == [0, *(2 * number for number in range(MAX_BATCH + 3))]
    assert call.batches == [[GATE], [*range(MAX_BATCH)], [*range(MAX_BATCH, MAX_BATCH + 3)]]


def test_one_that_comes_alone_does_not_wait_for_others() -> None:
    call = Call()
    batcher = Batcher(call, busy=BUSY)

    async def one_by_one() -> list[int]:
        return [await batcher.ask(number) for number in range(3)]

    assert asyncio.run(one_by_one()) == [0, 2, 4]
    assert call.batches == [[0], [1], [2]]


def test_an_items_error_is_its_own_and_a_failing_call_everybodys() -> None:
    call = Call()
    batcher = Batcher(call, busy=BUSY)

    async def mixed() -> list[int | BaseException]:
        first = asyncio.create_task(batcher.ask(GATE))
        await _begun(call)
        asked = [batcher.ask(1), batcher.ask(-1), batcher.ask(2)]
        later = asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(0)
        call.gate.set()
        await first
        return await later

    one, refused, two = asyncio.run(mixed())
    assert (one, two) == (2, 4)
    assert isinstance(refused, NotFound)

    def failing(items: Sequence[int]) -> list[int | Exception]:
        raise Unavailable("The database does not answer just now.")

    async def both() -> None:
        broken = Batcher(failing, busy=BUSY)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await broken.ask(1)

    asyncio.run(both())


def test_an_item_that_would_wait_too_long_is_refused_and_the_next_one_served() -> None:
    call = Call()
    batcher = Batcher(call, busy=BUSY, max_wait_seconds=0.05)

    async def two() -> None:
        slow = asyncio.create_task(batcher.ask(GATE))
        await _begun(call)
        with pytest.raises(Unavailable, match=BUSY):
            await batcher.ask(1)
        call.gate.set()
        # It took longer than that, but its call had begun.
        assert await slow == 0
        assert await batcher.ask(3) == 6

    asyncio.run(two())
    assert call.batches == [[GATE], [3]]


def test_a_caller_that_goes_away_while_waiting_is_left_out() -> None:
    call = Call()
    batcher = Batcher(call, busy=BUSY)

    async def three() -> int:
        slow = asyncio.create_task(batcher.ask(GATE))
        await _begun(call)
        gone = asyncio.create_task(batcher.ask(1))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        call.gate.set()
        await slow
        return await batcher.ask(2)

    assert asyncio.run(three()) == 4
    assert call.batches == [[GATE], [2]]


@pytest.mark.parametrize("answer", [[1], [StopIteration(), 2], [1, 2, 3]])
def test_whatever_a_call_answers_no_caller_waits_for_ever(answer: list[int | Exception]) -> None:
    first, second = asyncio.run(_two(Batcher(lambda items: answer if len(items) > 1 else [0], busy=BUSY)))
    if isinstance(answer[0], StopIteration):
        assert isinstance(first, RuntimeError)
        assert second == 2
    else:
        assert first == 1
        assert second == 2 if len(answer) == 3 else isinstance(second, ValueError)


async def _two(batcher: Batcher[int, int]) -> list[int | BaseException]:
    alone = asyncio.create_task(batcher.ask(0))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        both = await asyncio.gather(batcher.ask(1), batcher.ask(2), return_exceptions=True)
        await alone
    return [*both]


def test_callers_that_gave_up_are_forgotten_while_a_call_hangs() -> None:
    call = Call()
    batcher = Batcher(call, busy=BUSY, max_wait_seconds=0.01)

    async def many() -> int:
        slow = asyncio.create_task(batcher.ask(GATE))
        await _begun(call)
        for _ in range(5):
            with pytest.raises(Unavailable):
                await batcher.ask(1)
        waiting = len(batcher._queue)
        call.gate.set()
        await slow
        return waiting

    assert asyncio.run(many()) == 1


def test_a_call_runs_in_an_empty_context() -> None:
    def asking(items: Sequence[str]) -> list[str | Exception]:
        return [_asking.get() for _ in items]

    async def ask() -> str:
        _asking.set("somebody")
        return await Batcher(asking, busy=BUSY).ask("who?")

    assert asyncio.run(ask()) == "nobody"
