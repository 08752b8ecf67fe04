"""Calls the model server, which answers chat completions of adapters and starts vLLM when needed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import httpx
from pydantic import SecretStr

from craft.contracts.services.model_server import BASE_MODEL_HEADER, ServedBase
from craft.errors import Unavailable
from craft.infra.observe.telemetry import trace_headers

_TIMEOUT = httpx.Timeout(10.0, read=600.0)
"""The read timeout covers a model that loads and a long reply, as in OpenAI's own client; others are short."""
_LIMITS = httpx.Limits(max_connections=1000, max_keepalive_connections=50)


@dataclass(frozen=True, slots=True)
class ModelServerReply:
    """An answer whose body still arrives. The caller must close it, which also stops the generation."""

    status: int
    media_type: str
    retry_after: str | None
    chunks: AsyncIterator[bytes]
    """The body in the pieces in which it arrives. Iteration raises Unavailable where the connection breaks."""
    close: Callable[[], Awaitable[None]]


class ModelServer(Protocol):
    """A server of chat completions of adapters."""

    async def chat(self, body: bytes, *, base: ServedBase) -> ModelServerReply:
        """Request a chat completion, in OpenAI's form. Raises Unavailable if the server does not answer."""
        ...


class HttpModelServer:
    """The model server over HTTP. To cancel a call, or to close its reply, closes the connection."""

    def __init__(self, base_url: str, *, token: SecretStr, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"},
            timeout=_TIMEOUT,
            limits=_LIMITS,
            transport=transport,
        )

    async def chat(self, body: bytes, *, base: ServedBase) -> ModelServerReply:
        """See `ModelServer.chat`."""
        headers = {"Content-Type": "application/json", BASE_MODEL_HEADER: base.model_dump_json(), **trace_headers()}
        request = self._http.build_request("POST", "/v1/chat/completions", content=body, headers=headers)
        try:
            response = await self._http.send(request, stream=True)
        except httpx.HTTPError as error:
            raise _unavailable() from error
        return ModelServerReply(
            status=response.status_code,
            media_type=response.headers.get("Content-Type", ""),
            retry_after=response.headers.get("Retry-After"),
            chunks=_chunks(response),
            close=response.aclose,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


async def _chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_bytes():
            yield chunk
    except httpx.HTTPError as error:
        raise Unavailable("The model server broke off its answer.", hint="Send the request again.") from error


def _unavailable() -> Unavailable:
    return Unavailable("The model server does not answer just now.", hint="Try again in a few seconds.")
