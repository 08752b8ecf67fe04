"""Sends what is due to webhooks, all at once and each for itself, on a thread and an event loop of its own.

Nothing here can hold up a stage: neither the coordinator's event loop nor its threads wait for a receiver.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from craft.errors import CraftError
from craft.infra.observe.log import never_failing
from craft_gateway.concurrency import TROUBLE_SECONDS, TroubleLog
from craft_gateway.webhooks.deliveries import Attempted, Deliveries, Taken
from craft_gateway.webhooks.http_post import Answer, DeliveryOutcome, Poster
from craft_gateway.webhooks.secrets import SecretBox, signatures

MOST_IN_FLIGHT = 200
_POLL_SECONDS = 0.25
_GRACE_SECONDS = 2.0
_END_SECONDS = 5.0
_log = logging.getLogger("craft.webhooks")


class WebhookSender:
    """One sender. `count` is told of each attempt; `clock` is what receivers compare with theirs, in Unix seconds."""

    def __init__(
        self,
        deliveries: Deliveries,
        post: Poster,
        box: SecretBox,
        *,
        count: Callable[[DeliveryOutcome], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._deliveries = deliveries
        self._post = post
        self._box = box
        self._count = count
        self._clock = clock
        self._in_flight: dict[asyncio.Task[None], str] = {}
        """The host of each attempt that runs."""
        self._made: list[Attempted] = []
        self._wake = asyncio.Event()
        self._trouble = TroubleLog(_log, "webhooks")

    async def run(self, stop: Callable[[], bool]) -> None:
        """Send until told to stop, then wait shortly for what is under way. Whatever fails is tried again."""
        try:
            while not stop():
                self._wake.clear()
                if not await self._careful_turn():
                    await self._rest()
            await self.ended(_GRACE_SECONDS)
            await self._settle()
        finally:
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)
            await self._post.close()

    def wake(self) -> None:
        """Look again now; called on the courier's own loop."""
        self._wake.set()

    async def turn(self) -> int:
        """Write down what came back, and begin what is due; returns how many. Raises Unavailable."""
        await self._settle()
        hosts = Counter(self._in_flight.values())
        most = MOST_IN_FLIGHT - len(self._in_flight)
        taken = await asyncio.to_thread(self._deliveries.take, in_flight=hosts, most=most) if most else ()
        for each in taken:
            task = asyncio.create_task(self._attempt(each))
            self._in_flight[task] = each.host
            task.add_done_callback(self._forget)
        return len(taken)

    async def ended(self, timeout_seconds: float | None = None) -> None:
        """Wait until every attempt under way has ended, or time is up."""
        if self._in_flight:
            await asyncio.wait(set(self._in_flight), timeout=timeout_seconds)

    async def _settle(self) -> None:
        if not self._made:
            return
        made = list(self._made)
        await asyncio.to_thread(self._deliveries.settle, made)
        del self._made[: len(made)]

    async def _careful_turn(self) -> int:
        try:
            begun = await self.turn()
        # The edge of the thread: messages wait in the database until it answers again.
        except Exception as error:
            self._trouble.failed(error)
            await asyncio.sleep(TROUBLE_SECONDS)
            return 0
        self._trouble.worked()
        return begun

    async def _rest(self) -> None:
        """Until an attempt ends, or it is time to look again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await self._wake.wait()

    async def _attempt(self, taken: Taken) -> None:
        answer = await self._sent(taken)
        self._made.append(Attempted(taken, answer))
        never_failing(lambda: self._count(answer.outcome))

    async def _sent(self, taken: Taken) -> Answer:
        try:
            # A file may have to be read for the key.
            valid = [await asyncio.to_thread(self._box.open, each) for each in taken.secrets]
        except CraftError as error:
            return Answer(DeliveryOutcome.UNSIGNED, error=error.message)
        body = taken.body.encode()
        now = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": taken.delivery_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signatures(valid, message_id=taken.delivery_id, timestamp=now, body=body),
        }
        return await self._post.send(taken.url, headers, body)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        self._wake.set()


@asynccontextmanager
async def running(make: Callable[[], WebhookSender]) -> AsyncIterator[None]:
    """A courier, made on its own thread, that sends for as long as the block lasts."""
    stop = threading.Event()
    wakers: list[Callable[[], object]] = []

    async def go() -> None:
        courier, loop = make(), asyncio.get_running_loop()
        wakers.append(lambda: loop.call_soon_threadsafe(courier.wake))
        await courier.run(stop.is_set)

    thread = threading.Thread(target=lambda: asyncio.run(go()), name="webhooks", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        for wake in wakers:
            with suppress(RuntimeError):  # its loop has ended already
                wake()
        await asyncio.to_thread(thread.join, _END_SECONDS)
