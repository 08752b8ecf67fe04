"""Batches overlap, and are given whole, in order, and with costs that add up."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.services.inference.conftest import letter_prompts, prompts
from tests.services.inference.rigs.supervisor_rig import in_a_loop
from tests.services.inference.vllm.test_engine import GREEDY, SAMPLED, Rig, scores

from craft.contracts.services.model_server import ServedTokens
from craft_inference.engine import Prompt
from craft_inference.vllm.batches import BatchStream
from craft_inference.vllm.client import CompletionRequest


class Server:
    """Answers a request when the test says so; keeps the ids that were asked, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting: dict[str, asyncio.Future[str]] = {}

    async def send(self, request: CompletionRequest) -> str:
        self.asked.append(request.id)
        self.waiting[request.id] = asyncio.get_running_loop().create_future()
        try:
            return await self.waiting[request.id]
        finally:
            del self.waiting[request.id]

    async def answer(self, *ids: str) -> None:
        for name in ids:
            self.waiting[name].set_result(f"to {name}")
        for _ in range(10):
            await asyncio.sleep(0)


def batches(*names: str) -> Iterator[Sequence[CompletionRequest]]:
    """A batch for each text; each word is a request."""
    return iter([[CompletionRequest(word, {}) for word in text.split()] for text in names])


def stream(
    server: Server, asked: Iterator[Sequence[CompletionRequest]], *, in_flight: int, seen: list[Any] | None = None
) -> BatchStream:
    def note(done: int, begun: int) -> None:
        if seen is not None:
            seen.append((done, begun))

    return BatchStream(asked, server.send, in_flight=in_flight, on_answer=note)


@in_a_loop
async def test_the_next_batch_begins_when_the_one_before_is_sent_and_not_when_it_is_answered() -> None:
    """A barrier between batches leaves all slots but the slowest request's empty."""
    server = Server()
    async with aclosing(stream(server, batches("a b c", "d e", "f"), in_flight=2).answered()) as each:
        first = asyncio.ensure_future(anext(each))
        await server.answer()
        assert server.asked == ["a", "b"]
        await server.answer("b")
        assert server.asked == ["a", "b", "c"]
        await server.answer("c")
        assert server.asked == ["a", "b", "c", "d"]
        assert not first.done()
        await server.answer("a")
        assert (await first).responses == ["to a", "to b", "to c"]


@in_a_loop
async def test_a_batch_is_not_taken_while_the_one_before_waits_for_slots() -> None:
    """Its prompts are rendered when it is taken, and meanwhile nothing is sent."""
    server, taken = Server(), list[str]()

    def noted() -> Iterator[Sequence[CompletionRequest]]:
        for batch in batches("a b c", "d"):
            taken.append(batch[0].id)
            yield batch

    async with aclosing(stream(server, noted(), in_flight=2).answered()) as each:
        first = asyncio.ensure_future(anext(each))
        await server.answer()
        assert taken == ["a"]
        await server.answer("a", "b")
        assert taken == ["a", "d"]
        await server.answer("c")
        await first


@in_a_loop
async def test_two_batches_are_begun_at_most() -> None:
    server = Server()
    async with aclosing(stream(server, batches("a", "b", "c", "d"), in_flight=10).answered()) as each:
        first = asyncio.ensure_future(anext(each))
        await server.answer()
        assert server.asked == ["a", "b"]
        await server.answer("b")
        assert server.asked == ["a", "b"]
        await server.answer("a")
        assert (await first).responses == ["to a"]
        assert (await anext(each)).responses == ["to b"]


@in_a_loop
async def test_a_failure_in_the_second_batch_does_not_wait_for_the_first() -> None:
    """An order to stop arrives by any response; one that waits for the first batch comes after minutes."""
    server = Server()
    async with aclosing(stream(server, batches("a", "b"), in_flight=10).answered()) as each:
        first = asyncio.ensure_future(anext(each))
        await server.answer()
        server.waiting["b"].set_exception(RuntimeError("stop"))
        with pytest.raises(RuntimeError, match="stop"):
            await asyncio.wait_for(first, 5)
    assert server.waiting == {}


@in_a_loop
async def test_closing_the_stream_ends_every_request() -> None:
    server = Server()
    each = stream(server, batches("a b", "c d"), in_flight=10).answered()
    first = asyncio.ensure_future(anext(each))
    await server.answer()
    await server.answer("a", "b")
    await first
    assert set(server.waiting) == {"c", "d"}
    await each.aclose()
    assert server.waiting == {}


@in_a_loop
async def test_progress_counts_over_all_batches() -> None:
    server, seen = Server(), list[Any]()
    async with aclosing(stream(server, batches("a", "b"), in_flight=10, seen=seen).answered()) as each:
        first = asyncio.ensure_future(anext(each))
        await server.answer()
        await server.answer("b")
        await server.answer("a")
        await first
    assert seen == [(1, 2), (2, 2)]


def parts(count: int, size: int) -> list[list[Prompt]]:
    asked = prompts(*(f"{number}?" for number in range(count)))
    return [asked[start : start + size] for start in range(0, count, size)]


def test_all_batches_have_one_lease_and_the_rows_of_separate_calls(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    rig, alone = Rig(tmp_path, in_flight=21), Rig(tmp_path / "alone")
    rig.backwards = True
    found = list(rig.engine.generate_each(parts(30, 8), SAMPLED, needed=0))
    assert [each.rows for each in found] == [alone.engine.generate(part, SAMPLED).rows for part in parts(30, 8)]
    assert (rig.opened, alone.opened) == (1, 4)
    assert rig.max_in_flight == 7
    assert {name: body["seed"] for name, body in rig.bodies().items()} == {
        name: body["seed"] for name, body in alone.bodies().items()
    }


def test_letters_come_in_batches_too(tmp_path: Path) -> None:
    rig = Rig(tmp_path, scores)
    asked = letter_prompts("a?", "b?", "c?")
    found = list(rig.engine.letters_each([asked[:2], asked[2:]], needed=0))
    assert [[row.id for row in each.rows] for each in found] == [["q0", "q1"], ["q2"]]
    assert rig.opened == 1


def test_no_batches_take_no_lease(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert list(rig.engine.generate_each([], SAMPLED, needed=0)) == []
    assert rig.opened == 0


def test_costs_of_batches_that_overlap_add_up_to_the_whole(tmp_path: Path) -> None:
    """What a batch prefilled is counted once, although its successor's prompts ran meanwhile."""
    rig = Rig(tmp_path)
    rig.counters = [
        ServedTokens(prompt=1000, cached=400),
        ServedTokens(prompt=3000, cached=1400),
        ServedTokens(prompt=3000, cached=1400),
    ]
    usages = [each.usage for each in rig.engine.generate_each(parts(4, 2), GREEDY, needed=0)]
    assert [usage.prefilled_tokens for usage in usages] == [1000, 0]
    assert all(usage.seconds > 0 for usage in usages)


def test_a_batch_that_is_not_closed_to_its_end_ends_its_requests_and_its_lease(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    each = rig.engine.generate_each(parts(40, 10), SAMPLED, needed=0)
    next(each)
    each.close()
    assert (rig.open, rig.in_flight) == (0, 0)
    assert len(rig.requests) <= 20
