"""HTTP with retries: idempotent requests are repeated when the connection fails or the server asks for a pause."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import httpx

from craft_client.config import Connection
from craft_client.encoding import ModelT, parsed
from craft_client.errors import ApiError, ServerUnreachable
from craft_client.retrying import backoff_seconds, never_sent, pause_seconds

_READ_SECONDS = 60.0
"""Longer than the time between the server's pings, and than its longest poll."""


class AsyncTransport:
    """One connection pool to one server. `http` and `sleep` are for tests."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        team: str | None = None,
        timeout_seconds: float = _READ_SECONDS,
        retries: int = 4,
        http: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.base_url = base_url
        self.retries = retries
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        headers |= {"Craft-Team": team} if team else {}
        timeout = httpx.Timeout(timeout_seconds, connect=5.0)
        self._http = httpx.AsyncClient(base_url=base_url, headers=headers, timeout=timeout, transport=http)
        self._sleep = sleep

    @classmethod
    def of(cls, connection: Connection, *, timeout_seconds: float, retries: int) -> "AsyncTransport":
        """The transport for a connection's server and credentials."""
        return cls(
            connection.url,
            api_key=connection.api_key,
            team=connection.team,
            timeout_seconds=timeout_seconds,
            retries=retries,
        )

    async def close(self) -> None:
        """Close the pool."""
        await self._http.aclose()

    async def pause(self, attempt: int) -> None:
        """Wait before the next attempt, longer each time."""
        await self._sleep(backoff_seconds(attempt))

    async def call(
        self,
        model: type[ModelT],
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        idempotent: bool = True,
        timeout_seconds: float | None = None,
    ) -> ModelT:
        """Send a request and return the response as `model`. Raises ApiError, ServerUnreachable, UnexpectedAnswer.

        `idempotent`: sending it twice has the same effect as once. All attempts of a POST have the same
        Idempotency-Key, for which the server makes one job. `timeout_seconds` is for calls that take longer.
        """
        response = await self.send(
            method, path, params=params, json=json, idempotent=idempotent, timeout_seconds=timeout_seconds
        )
        return parsed(model, response.content)

    async def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        idempotent: bool = True,
        timeout_seconds: float | None = None,
    ) -> httpx.Response:
        """See `call`. Returns the response itself."""
        headers = {"Idempotency-Key": uuid4().hex} if method == "POST" else {}
        timeout = self._http.timeout if timeout_seconds is None else httpx.Timeout(timeout_seconds, connect=5.0)

        async def send() -> httpx.Response:
            return await self._http.request(method, path, params=params, json=json, headers=headers, timeout=timeout)

        return await self._retried(send, idempotent=idempotent)

    async def upload(
        self, model: type[ModelT], path: str, *, file: IO[bytes], name: str, fields: Mapping[str, str]
    ) -> ModelT:
        """POST a file as multipart, streamed. The file is rewound for each attempt."""

        async def send() -> httpx.Response:
            file.seek(0)
            return await self._http.post(path, files={"file": (name, file)}, data=dict(fields), timeout=None)

        return parsed(model, (await self._retried(send, idempotent=True)).content)

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, Any], headers: Mapping[str, str]
    ) -> AsyncIterator[httpx.Response]:
        """A streamed GET without retries: the caller knows its position. Raises ApiError, httpx.TransportError."""
        async with self._http.stream("GET", path, params=params, headers=dict(headers)) as response:
            if not response.is_success:
                await response.aread()
                raise ApiError.of(response)
            yield response

    async def download(self, path: str, target: Path, *, params: Mapping[str, Any]) -> Path:
        """Save a body to `target`. The file is whole or absent."""
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.part")

        async def save() -> httpx.Response:
            async with self._http.stream("GET", path, params=params) as response:
                if not response.is_success:
                    await response.aread()
                    return response
                with temporary.open("wb") as file:
                    async for block in response.aiter_bytes():
                        file.write(block)
                return response

        try:
            await self._retried(save, idempotent=True)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    async def _retried(self, send: Callable[[], Awaitable[httpx.Response]], *, idempotent: bool) -> httpx.Response:
        for attempt in range(self.retries + 1):
            last = attempt == self.retries
            try:
                response = await send()
            except httpx.TransportError as error:
                if last or not (idempotent or never_sent(error)):
                    raise ServerUnreachable(f"No answer from {self._shown_url}: {_text_of(error)}") from error
                pause = backoff_seconds(attempt)
            else:
                if response.is_success:
                    return response
                allowed = pause_seconds(response, attempt, idempotent=idempotent)
                if last or allowed is None:
                    raise ApiError.of(response)
                pause = allowed
            await self._sleep(pause)
        raise AssertionError("the loop returns or raises")

    @property
    def _shown_url(self) -> str:
        # Others may read terminals and logs, so a password in the address is not shown.
        return str(httpx.URL(self.base_url).copy_with(userinfo=b""))


def _text_of(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
