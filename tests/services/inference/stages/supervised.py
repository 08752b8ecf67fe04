"""A supervisor whose servers, clock and device the test plays."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

from craft.contracts.services.model_server import ModelLease, ModelLeaseRequest, ServedBase
from craft.contracts.stages.parameters import ModelRef
from craft_inference.model_server.server_fake import FakeServer
from craft_inference.model_server.supervisor import ServerSupervisor, Timeouts

P = ParamSpec("P")
PATIENCE_SECONDS = 20.0


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test, in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE_SECONDS))

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Let the others go on until it is so."""
    while not condition():
        await asyncio.sleep(0.001)


async def a_while() -> None:
    """Let the others do all that they can do without the clock."""
    for _ in range(5):
        await asyncio.sleep(0.002)


def base(name: str = "a") -> ServedBase:
    return ServedBase(model=ModelRef(id=f"team/{name}", revision="main", digest="d" * 64), dtype="float32")


class Rig:
    """`now` is the clock, `free` whether the device's turn is to be had; `make` gives the next server."""

    def __init__(
        self,
        *,
        start_seconds: float = 900.0,
        idle_seconds: float = 600.0,
        look_seconds: float = 0.001,
        as_served: Callable[[ServedBase], ServedBase] = lambda served: served,
    ) -> None:
        self.now = 1000.0
        self.free = True
        self.turns = 0
        self.servers: list[FakeServer] = []
        self.bases: list[ServedBase] = []
        self.make: Callable[[], FakeServer] = FakeServer
        self.supervisor = ServerSupervisor(
            self._start,
            turn_if_free=self._turn,
            as_served=as_served,
            patience=Timeouts(start_seconds, idle_seconds, look_seconds=look_seconds),
            clock=lambda: self.now,
        )

    @property
    def running(self) -> list[FakeServer]:
        return [server for server in self.servers if not server.stops]

    async def hold(self, name: str = "a", *, has_turn: bool = True) -> ModelLease:
        return await self.supervisor.hold(ModelLeaseRequest(base=base(name), has_turn=has_turn))

    def holding(self, name: str = "a", *, has_turn: bool = True) -> "asyncio.Task[ModelLease]":
        return asyncio.create_task(self.hold(name, has_turn=has_turn))

    async def ask(self, hold: ModelLease) -> int:
        async with self.supervisor.under(hold.id) as client:
            return (await client.post("/v1/completions", json={})).status_code

    async def ask_as_user(self, name: str = "a") -> int:
        async with self.supervisor.asked(base(name)) as client:
            return (await client.post("/v1/chat/completions", json={})).status_code

    @contextmanager
    def watched(self) -> "Iterator[asyncio.Task[None]]":
        watching = asyncio.create_task(self.supervisor.watch())
        try:
            yield watching
        finally:
            watching.cancel()

    def _start(self, served: ServedBase) -> FakeServer:
        assert not self.running, "two servers at a time"
        server = self.make()
        self.servers.append(server)
        self.bases.append(served)
        return server

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        had = self.free
        self.turns += had
        try:
            yield had
        finally:
            self.turns -= had
