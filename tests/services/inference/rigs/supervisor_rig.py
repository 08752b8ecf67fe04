"""A supervisor with fake servers, a fake clock and a fake device lock."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec

from craft.contracts.services.model_server import ModelLease, ModelLeaseRequest, ServedBase
from craft.contracts.stages.parameters import ModelRef
from craft_inference.model_server.memory.context import Context
from craft_inference.model_server.server_fake import FakeServer
from craft_inference.model_server.supervisor import ChooseContext, ServerSupervisor, Timeouts

P = ParamSpec("P")
PATIENCE_SECONDS = 20.0


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run the test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE_SECONDS))

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks run until the condition is true."""
    while not condition():
        await asyncio.sleep(0.001)


async def a_while() -> None:
    """Let the other tasks do all that they can do without the clock."""
    for _ in range(5):
        await asyncio.sleep(0.002)


def base(name: str = "a") -> ServedBase:
    return ServedBase(model=ModelRef(id=f"team/{name}", revision="main", digest="d" * 64), dtype="float32")


class Rig:
    """`now` is the clock's time; `free` says whether the device lock is free; `make` gives the next server."""

    def __init__(
        self,
        *,
        start_seconds: float = 900.0,
        idle_seconds: float = 600.0,
        poll_seconds: float = 0.001,
        as_served: Callable[[ServedBase], ServedBase] = lambda served: served,
        choose_context: ChooseContext = lambda _, needed: needed or 4096,
        stays: bool = False,
    ) -> None:
        self.now = 1000.0
        self.free = True
        self.device_owners = 0
        self.servers: list[FakeServer] = []
        self.bases: list[ServedBase] = []
        self.contexts: list[Context] = []
        self.make: Callable[[], FakeServer] = FakeServer
        self.supervisor = ServerSupervisor(
            self._start,
            acquire_device_if_free=self._acquire_device_if_free,
            as_served=as_served,
            choose_context=choose_context,
            stays=stays,
            timeouts=Timeouts(start_seconds, idle_seconds, poll_seconds=poll_seconds),
            clock=lambda: self.now,
        )

    @property
    def running(self) -> list[FakeServer]:
        return [server for server in self.servers if not server.stops]

    async def lease(self, name: str = "a", *, has_device: bool = True, context: int | None = None) -> ModelLease:
        request = ModelLeaseRequest(base=base(name), has_device=has_device, context_tokens=context)
        return await self.supervisor.lease(request)

    def leasing(
        self, name: str = "a", *, has_device: bool = True, context: int | None = None
    ) -> "asyncio.Task[ModelLease]":
        return asyncio.create_task(self.lease(name, has_device=has_device, context=context))

    async def ask(self, lease: ModelLease) -> int:
        async with self.supervisor.leased_client(lease.id) as client:
            return (await client.post("/v1/completions", json={})).status_code

    async def ask_as_user(self, name: str = "a") -> int:
        async with self.supervisor.client_for(base(name)) as client:
            return (await client.post("/v1/chat/completions", json={})).status_code

    @contextmanager
    def watched(self) -> "Iterator[asyncio.Task[None]]":
        watching = asyncio.create_task(self.supervisor.watch())
        try:
            yield watching
        finally:
            watching.cancel()

    def _start(self, served: ServedBase, context: Context) -> FakeServer:
        assert not self.running, "two servers at a time"
        server = self.make()
        self.servers.append(server)
        self.bases.append(served)
        self.contexts.append(context)
        server.context = context if isinstance(context, int) else server.context
        return server

    @contextmanager
    def _acquire_device_if_free(self) -> Iterator[bool]:
        acquired = self.free
        self.device_owners += acquired
        try:
            yield acquired
        finally:
            self.device_owners -= acquired
