"""A large body takes a turn of its team until the answer begins; one of unknown length when it has become large."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from craft.errors import RateLimited
from craft_gateway.access.identity import Identity
from craft_gateway.access.long_work import LARGE_BODY_BYTES, LargeBodies, long_work

PER_TEAM, WAITING = 1, 4
"""Large documents of one team."""
CHUNKED = (b"transfer-encoding", b"chunked")
ALPHA = Identity("key of alpha", {"alpha": frozenset()})


class Upload:
    """A request whose body comes in parts, and whose answer ends when the test lets it go."""

    def __init__(self, header: tuple[bytes, bytes], parts: Sequence[bytes]) -> None:
        self.scope: Scope = {
            "type": "http",
            "path": "/craft/jobs",
            "headers": [header, (b"content-type", b"application/json")],
            "state": {"identity": ALPHA},
        }
        self.sent: list[Message] = []
        self.read = asyncio.Event()
        self.more = asyncio.Event()
        self.go_on = asyncio.Event()
        self._parts = list(parts)

    @property
    def status(self) -> int | None:
        return next((message["status"] for message in self.sent if message["type"] == "http.response.start"), None)

    async def receive(self) -> Message:
        if self._parts:
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": True}
        self.read.set()
        await self.more.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def streams(uploads: Sequence[Upload]) -> ASGIApp:
    """An application that reads the body, and whose answer is a stream."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        upload = next(each for each in uploads if each.scope is scope)
        try:
            while (await receive())["more_body"]:
                pass
        except RateLimited:
            await PlainTextResponse("of the application", status_code=400)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await upload.go_on.wait()
        await send({"type": "http.response.body", "body": b""})

    return app


def run(uploads: Callable[[], Sequence[Upload]], check: Callable[[Sequence[Upload]], Awaitable[None]]) -> None:
    """Send them all at once, and check what became of them while none of them ends."""

    async def together() -> None:
        sent = uploads()
        bounded = LargeBodies(streams(sent), work=long_work(), other_form=lambda _scope, _error: None)
        tasks = [asyncio.create_task(bounded(each.scope, each.receive, each.send)) for each in sent]
        await settled()
        await check(sent)
        for each in sent:
            each.more.set()
            each.go_on.set()
        await asyncio.gather(*tasks)

    asyncio.run(together())


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def known(bytes_: int) -> tuple[bytes, bytes]:
    return (b"content-length", str(bytes_).encode())


def test_small_bodies_of_unknown_length_need_no_turn() -> None:
    async def check(uploads: Sequence[Upload]) -> None:
        assert all(each.read.is_set() and each.status is None for each in uploads)

    run(lambda: [Upload(CHUNKED, [b"x" * 1000] * 3) for _ in range(20)], check)


@pytest.mark.parametrize("size", [LARGE_BODY_BYTES + 1, None])
def test_more_large_bodies_than_run_and_wait_are_refused(size: int | None) -> None:
    part = b"x" * (LARGE_BODY_BYTES // 2 + 1)

    async def check(uploads: Sequence[Upload]) -> None:
        assert [each.status for each in uploads].count(429) == 8 - PER_TEAM - WAITING
        assert sum(each.read.is_set() for each in uploads) == PER_TEAM, "the others' bodies are not read to their end"

    run(lambda: [Upload(known(size) if size else CHUNKED, [part, part]) for _ in range(8)], check)


@pytest.mark.parametrize("header", [known(LARGE_BODY_BYTES + 1), CHUNKED])
def test_the_turn_ends_when_the_answer_begins(header: tuple[bytes, bytes]) -> None:
    async def check(uploads: Sequence[Upload]) -> None:
        for each in uploads:
            each.more.set()
        await settled()
        assert [each.status for each in uploads] == [200] * 5, "streams hold no turn"

    run(lambda: [Upload(header, [b"x" * (LARGE_BODY_BYTES + 1)]) for _ in range(5)], check)
