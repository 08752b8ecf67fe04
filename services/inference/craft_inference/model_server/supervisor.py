"""Which base model is served, who needs it, and when the server is started, swapped, restarted or stopped."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

import httpx

from craft.contracts.services.model_server import (
    ModelLease,
    ModelLeaseRequest,
    ServedBase,
    ServedTokens,
    ServerState,
    ServerView,
)
from craft.errors import CraftError, DeviceBusy, NotFound, Unavailable
from craft.infra.ids import new_id
from craft_inference.model_server.server import Server, tokens_of, version_of

_MOST_RESTARTS = 3
_log = logging.getLogger("craft.model_server")
Start = Callable[[ServedBase], Server]
"""Starts a server for the base model. Raises ModelNotFound, ModelRejected, OSError."""
AcquireDeviceIfFree = Callable[[], AbstractContextManager[bool]]
"""A turn on the device if nobody has it just now; its value says whether it was had."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds until a server that is not ready is given up, and until one that nobody uses is stopped.

    `hold_seconds`: a hold that is not used for so long is let go, for whoever had it is dead. `wait_seconds`: how long
    one who needs another model, or none, waits for those who use this one. `look_seconds`: between two looks.
    """

    start_seconds: float
    idle_seconds: float
    hold_seconds: float = 60.0
    wait_seconds: float = 30.0
    look_seconds: float = 0.25


class ServerSupervisor:
    """At most one server at a time. Runs on one event loop; `watch` must run as long as it is used.

    `as_served` may widen what is asked for, so that one server does for more.
    """

    def __init__(
        self,
        start: Start,
        *,
        turn_if_free: AcquireDeviceIfFree,
        patience: Timeouts,
        as_served: Callable[[ServedBase], ServedBase] = lambda base: base,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._start = start
        self._as_served = as_served
        self._turn_if_free = turn_if_free
        self._patience = patience
        self._clock = clock
        self._transition = asyncio.Lock()
        self._server: Server | None = None
        self._base: ServedBase | None = None
        self._state = ServerState.STOPPED
        self._version = ""
        self._holds: dict[str, float] = {}
        self._asked_under: Counter[str] = Counter()
        self._in_flight = 0
        self._refusing = False  # while somebody waits for the server to be free, new questions would keep it busy
        self._releasing = 0
        self._used_at = clock()
        self._starts = self._restarts = 0
        self._since = datetime.now(UTC)
        self._last_error: str | None = None

    async def hold(self, request: ModelLeaseRequest) -> ModelLease:
        """Serve the base model, swapping another out once nobody uses it.

        Raises DeviceBusy where that takes too long or the device is somebody else's, and what starting it raises.
        """
        base = self._as_served(request.base)
        async with self._transition:
            if not self._serves(base):
                await self._until_unused()
                await self._ensure(base, has_turn=request.has_turn)
        hold = ModelLease(id=new_id("hold"), version=self._version)
        self._holds[hold.id] = self._used_at = self._clock()
        return hold

    def let_go(self, hold_id: str) -> None:
        """The hold is not needed any more."""
        self._holds.pop(hold_id, None)
        self._used_at = self._clock()

    async def release(self) -> ServerView:
        """Stop: somebody else has the device's turn. Requests under way may end within half a minute."""
        # Whoever had a model loaded under that turn is dead; its model need not get ready first.
        self._releasing += 1
        try:
            async with self._transition:
                self._holds.clear()
                with suppress(DeviceBusy):
                    await self._until_unused()
                await self._stop()
        finally:
            self._releasing -= 1
        return self.view()

    @asynccontextmanager
    async def under(self, hold_id: str) -> AsyncIterator[httpx.AsyncClient]:
        """Ask under a hold, after waiting for a server that is being started again.

        Raises NotFound where the hold ran out or was lost with a server that could not be kept.
        """
        while True:
            if hold_id not in self._holds:
                raise NotFound("There is no such hold: it was not used for a minute, or the server could not be kept.")
            self._holds[hold_id] = self._clock()
            if self._state is ServerState.READY and self._server is not None and self._server.alive:
                break
            await asyncio.sleep(self._patience.look_seconds)
        self._asked_under[hold_id] += 1
        try:
            with self._asking():
                yield self._server.client
        finally:
            self._asked_under[hold_id] -= 1
            if not self._asked_under[hold_id]:
                del self._asked_under[hold_id]
            if hold_id in self._holds:
                self._holds[hold_id] = self._clock()

    @asynccontextmanager
    async def asked(self, base: ServedBase) -> AsyncIterator[httpx.AsyncClient]:
        """Ask without a hold, as users do; starts the server where nobody needs the device for something else.

        Raises DeviceBusy where somebody does, and what starting it raises.
        """
        if not self._serves(base):
            async with self._transition:
                if not self._serves(base):
                    if self._in_use:
                        raise DeviceBusy("The model server is busy with another base model.", hint="Try again later.")
                    await self._ensure(base, has_turn=False)
        if self._refusing or self._server is None:
            raise DeviceBusy("The model server is about to be needed for something else.", hint="Try again later.")
        with self._asking():
            yield self._server.client

    async def tokens(self) -> ServedTokens:
        """What the server's own counters say. Raises Unavailable where none runs."""
        if self._state is not ServerState.READY or self._server is None:
            raise Unavailable("vLLM is not running.")
        return await tokens_of(self._server.client)

    def view(self) -> ServerView:
        """What is going on."""
        return ServerView(
            state=self._state,
            base=self._base,
            since=self._since,
            starts=self._starts,
            holds=len(self._holds),
            in_flight=self._in_flight,
            last_error=self._last_error,
        )

    async def watch(self) -> None:
        """Let go of dead holds, start a dead server again, stop an idle one; for ever."""
        while True:
            await asyncio.sleep(self._patience.look_seconds)
            try:
                await self._look()
            except Exception:
                # Without a watch those who wait for a dead server would wait for ever.
                _log.exception("watch_failed")

    async def close(self) -> None:
        """Stop for good."""
        async with self._transition:
            await self._stop()

    @property
    def _in_use(self) -> bool:
        return bool(self._holds) or self._in_flight > 0

    def _serves(self, base: ServedBase) -> bool:
        ready = self._state is ServerState.READY and self._server is not None
        return ready and self._base is not None and self._base.covers(base)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._in_flight += 1
        try:
            yield
            self._restarts = 0
        finally:
            self._in_flight -= 1
            self._used_at = self._clock()

    async def _look(self) -> None:
        now = self._clock()
        for hold_id, used in list(self._holds.items()):
            # A long answer is a use as well.
            if now - used > self._patience.hold_seconds and hold_id not in self._asked_under:
                _log.warning("hold_expired", extra={"hold": hold_id})
                del self._holds[hold_id]
        if self._transition.locked():
            return
        async with self._transition:
            if self._server is None:
                return
            if not self._server.alive:
                await self._revive()
            elif not self._in_use and self._clock() - self._used_at > self._patience.idle_seconds:
                await self._stop()

    async def _until_unused(self) -> None:
        deadline = self._clock() + self._patience.wait_seconds
        self._refusing = True
        try:
            while self._in_use:
                if self._clock() > deadline:
                    raise DeviceBusy("The model server is busy with another base model.", hint="Try again later.")
                await asyncio.sleep(self._patience.look_seconds)
        finally:
            self._refusing = False

    async def _ensure(self, base: ServedBase, *, has_turn: bool) -> None:
        if has_turn:
            await self._swap(base)
            return
        with self._turn_if_free() as had:
            if not had:
                raise DeviceBusy("The device is taken by another stage.", hint="Try again when it is done.")
            await self._swap(base)

    def _unless_released(self) -> None:
        if self._releasing:
            raise DeviceBusy("The device is needed by another stage.", hint="Try again when it is done.")

    async def _swap(self, base: ServedBase) -> None:
        self._unless_released()
        await self._stop()
        self._set(ServerState.STARTING, base)
        self._starts += 1
        try:
            # In a thread: a large model whose digest is not known yet is read from end to end.
            self._server = await asyncio.to_thread(self._start, base)
            await self._until_ready(self._server)
            self._version = await version_of(self._server.client)
        except (CraftError, OSError, httpx.HTTPError) as error:
            self._last_error = str(error)
            _log.error("server_not_started", extra={"model": base.model.id, "detail": self._last_error})
            await self._stop()
            if isinstance(error, CraftError):
                raise
            raise Unavailable(f"vLLM could not be started: {error}") from error
        self._set(ServerState.READY, base)

    async def _until_ready(self, server: Server) -> None:
        deadline = self._clock() + self._patience.start_seconds
        while not await server.ready():
            if not server.alive:
                raise server.why_it_ended()
            self._unless_released()
            if self._clock() > deadline:
                raise Unavailable(
                    f"vLLM was not ready within {self._patience.start_seconds:g} seconds.",
                    hint="Raise CRAFT_INFERENCE__VLLM__START_SECONDS if the model is that large; see vLLM's log.",
                )
            await asyncio.sleep(self._patience.look_seconds)

    async def _revive(self) -> None:
        assert self._server is not None and self._base is not None  # noqa: S101, PT018 - a dead server had a base
        base, died = self._base, self._server.why_it_ended()
        self._last_error = died.message
        _log.error("server_died", extra={"model": base.model.id, "detail": died.message})
        await self._stop()
        if not self._holds:
            return
        self._restarts += 1
        try:
            if self._restarts <= _MOST_RESTARTS:
                await self._swap(base)
        except CraftError as error:
            _log.warning("server_not_revived", extra={"detail": error.message})
        finally:
            if self._state is not ServerState.READY:
                # Whoever held it is told at the next question, asks for a hold anew, and hears then what is wrong.
                self._holds.clear()
                self._restarts = 0

    async def _stop(self) -> None:
        server, self._server = self._server, None
        self._set(ServerState.STOPPED, None)
        if server is not None:
            await server.stop()

    def _set(self, state: ServerState, base: ServedBase | None) -> None:
        self._state, self._base, self._since = state, base, datetime.now(UTC)
        _log.info("server_state", extra={"state": state.value, "model": None if base is None else base.model.id})
