"""Sends due messages to webhooks, all at once and each for itself, on a thread and an event loop of its own.

No receiver can delay a stage: neither the coordinator's event loop nor its threads wait for one.
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
from craft_gateway.webhooks.deliveries import Deliveries, DeliveryResult, LeasedDelivery
from craft_gateway.webhooks.http_post import Answer, DeliveryOutcome, Poster
from craft_gateway.webhooks.secrets import SecretBox, signatures

MAX_IN_FLIGHT = 200
_POLL_SECONDS = 1.0
_GRACE_SECONDS = 2.0
_END_SECONDS = 5.0
_log = logging.getLogger("craft.webhooks")


class WebhookSender:
    """One sender. It calls `count` for each attempt; receivers compare `clock`, in Unix seconds, with their own."""

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
        self._results: list[DeliveryResult] = []
        self._wake = asyncio.Event()
        self._trouble = TroubleLog(_log, "webhooks")

    async def run(self, stop: Callable[[], bool]) -> None:
        """Send until `stop` says so, then wait shortly for the attempts that run. A step that fails is tried again."""
        try:
            while not stop():
                self._wake.clear()
                if not await self._try_step():
                    await self._idle()
            await self.wait_for_attempts(_GRACE_SECONDS)
            await self._settle()
        finally:
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)
            await self._post.close()

    def wake(self) -> None:
        """Look for due messages now. To be called on the sender's own loop."""
        self._wake.set()

    async def step(self) -> int:
        """Record results, and begin an attempt at each due message; returns how many. Raises Unavailable."""
        await self._settle()
        hosts = Counter(self._in_flight.values())
        most = MAX_IN_FLIGHT - len(self._in_flight)
        leased = await asyncio.to_thread(self._deliveries.lease, in_flight=hosts, most=most) if most else ()
        for delivery in leased:
            task = asyncio.create_task(self._attempt(delivery))
            self._in_flight[task] = delivery.host
            task.add_done_callback(self._forget)
        return len(leased)

    async def wait_for_attempts(self, timeout_seconds: float | None = None) -> None:
        """Wait until every attempt that runs has ended, or time is up."""
        if self._in_flight:
            await asyncio.wait(set(self._in_flight), timeout=timeout_seconds)

    async def _settle(self) -> None:
        if not self._results:
            return
        results = list(self._results)
        await asyncio.to_thread(self._deliveries.settle, results)
        del self._results[: len(results)]

    async def _try_step(self) -> int:
        try:
            begun = await self.step()
        # The edge of the thread: messages wait in the database until it answers again.
        except Exception as error:
            self._trouble.failed(error)
            await asyncio.sleep(TROUBLE_SECONDS)
            return 0
        self._trouble.worked()
        return begun

    async def _idle(self) -> None:
        """Wait until an attempt ends, or it is time to look again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await self._wake.wait()

    async def _attempt(self, delivery: LeasedDelivery) -> None:
        answer = await self._send(delivery)
        self._results.append(DeliveryResult(delivery, answer))
        never_failing(lambda: self._count(answer.outcome))

    async def _send(self, delivery: LeasedDelivery) -> Answer:
        try:
            # A file may have to be read for the key.
            valid = [await asyncio.to_thread(self._box.open, secret) for secret in delivery.secrets]
        except CraftError as error:
            return Answer(DeliveryOutcome.UNSIGNED, error=error.message)
        body = delivery.body.encode()
        now = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery.delivery_id,
            "webhook-timestamp": str(now),
            "webhook-signature": signatures(valid, message_id=delivery.delivery_id, timestamp=now, body=body),
        }
        return await self._post.send(delivery.url, headers, body)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        self._wake.set()


@asynccontextmanager
async def sender_thread(make: Callable[[], WebhookSender]) -> AsyncIterator[None]:
    """Make a sender on a thread of its own; it sends until the block ends."""
    stop = threading.Event()
    wakers: list[Callable[[], object]] = []

    async def go() -> None:
        sender, loop = make(), asyncio.get_running_loop()
        wakers.append(lambda: loop.call_soon_threadsafe(sender.wake))
        await sender.run(stop.is_set)

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
