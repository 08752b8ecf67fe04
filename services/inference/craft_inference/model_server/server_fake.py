"""A vLLM server without vLLM, for tests."""

from collections.abc import Awaitable, Callable

import httpx

from craft.errors import CraftError, Unavailable

VERSION = "0.0-fake"
Answer = Callable[[httpx.Request], Awaitable[httpx.Response]]


async def echo(request: httpx.Request) -> httpx.Response:
    """Answer with the request's own body."""
    return httpx.Response(200, content=request.content, headers={"content-type": "application/json", "x-path": "kept"})


class FakeServer:
    """Answers each completion with `answer` and keeps the requests in `requests`.

    A test sets `gets_ready`, `alive`, `ended` (why it ended), `version` (None: no version in the answer) and the token
    counts, and `context` (its length in tokens). One that `can_sleep` counts its `naps`, and is `awake` or not; one
    that `oversleeps` never wakes. A dead server refuses connections.
    """

    def __init__(self, answer: Answer = echo) -> None:
        self.answer = answer
        self.gets_ready = True
        self.alive = True
        self.ended: CraftError = Unavailable("It is gone.")
        self.version: str | None = VERSION
        self.context = 4096
        self.can_sleep = self.oversleeps = self.attached = False
        self.awake = True
        self.naps = 0
        self.prompt_tokens = self.cached_tokens = 0
        self.requests: list[httpx.Request] = []
        self.stops = 0
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self._handle), base_url="http://vllm")

    async def ready(self) -> bool:
        """See `Server.ready`."""
        return self.alive and self.gets_ready

    async def sleep(self) -> None:
        """See `Server.sleep`."""
        if not self.can_sleep:
            raise Unavailable("It cannot sleep.")
        self.naps += 1
        self.awake = False

    async def wake(self) -> None:
        """See `Server.wake`."""
        if self.oversleeps:
            raise Unavailable("It does not wake.")
        self.awake = True

    async def stop(self) -> None:
        """See `Server.stop`."""
        self.stops += 1
        self.alive = False
        await self.client.aclose()

    def why_it_ended(self) -> CraftError:
        """See `Server.why_it_ended`."""
        return self.ended

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        if not self.alive:
            raise httpx.ConnectError("refused")
        match request.url.path:
            case "/version":
                return httpx.Response(200, json={} if self.version is None else {"version": self.version})
            case "/v1/models":
                return httpx.Response(200, json={"data": [{"id": "team/a", "max_model_len": self.context}]})
            case "/metrics":
                return httpx.Response(200, text=self._metrics())
        if not self.awake:
            raise AssertionError("It was asked while it sleeps.")
        self.requests.append(request)
        return await self.answer(request)

    def _metrics(self) -> str:
        labels = 'engine="0",model_name="m"'
        return (
            f"# TYPE vllm:prompt_tokens_total counter\nvllm:prompt_tokens_total{{{labels}}} {self.prompt_tokens}.0\n"
            f"vllm:prompt_tokens_cached_total{{{labels}}} {self.cached_tokens}.0\n"
        )
