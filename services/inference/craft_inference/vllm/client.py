"""The model server's client: leases a model, sends requests under the lease, and retries where the server was lost."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx
from pydantic import SecretStr

from craft.contracts.problems import PROBLEM_MEDIA_TYPE
from craft.contracts.services.model_server import LEASE_HEADER, ModelLease, ModelLeaseRequest, ServedBase, ServedTokens
from craft.errors import ContextTooLong, CraftError, DeviceBusy, Internal, ModelRejected, NotFound, Unavailable
from craft.infra.backoff import exponential_backoff
from craft.infra.http.problem_client import error_from_problem

_MAX_STARTS = 3
_MAX_LOSSES = 5
_PAUSE_GROWTH = 4.0
_CONNECT_SECONDS = 5.0
_OTHER_FILES = 256
Check = Callable[["VllmSession"], Awaitable[None]]
"""Raises ServerUnsuitable for a server that would give other numbers than ours."""
_WHOLE = ("stop", "length")


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One request's body, without the model's name. Errors name the request by its id."""

    id: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """The model server's address, the credentials for it, and the waiting times.

    `has_device`: the caller has the device lock. `wait_seconds`: the longest wait for a busy device, for a model that
    is being loaded, or for a model server that is being restarted. `pause_seconds`: the pause before a retry.
    """

    url: str
    token: SecretStr
    has_device: bool
    wait_seconds: float
    pause_seconds: float = 1.0


def request_connections(descriptors: int) -> int:
    """The most requests in flight with a limit of so many open files: the model server has two connections for each."""
    return max(1, (descriptors - _OTHER_FILES) // 2)


@asynccontextmanager
async def lease_model(
    access: ServerAccess,
    base: ServedBase,
    needed: int | None,
    check: Check,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
) -> "AsyncIterator[VllmSession]":
    """A session on the base model, which stays served until the block ends. Raises the errors of `POST /v1/leases`.

    `needed` is the context that its requests need, None if it sends none that need any. `check` looks at a server that
    is the team's own, whenever a lease on it is taken.
    """
    client = httpx.AsyncClient(
        base_url=access.url,
        headers={"Authorization": f"Bearer {access.token.get_secret_value()}"},
        timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=None),
        transport=transport,
    )
    async with client:
        request = ModelLeaseRequest(base=base, has_device=access.has_device, context_tokens=needed)
        session = VllmSession(access, request, client, check)
        await session.open()
        try:
            yield session
        finally:
            await session.close()


class VllmSession:
    """Sends requests under one lease. Takes a new lease where the first one was lost with its server."""

    def __init__(
        self, access: ServerAccess, request: ModelLeaseRequest, client: httpx.AsyncClient, check: Check
    ) -> None:
        self._access = access
        self._check = check
        self._request = request
        self._client = client
        self._opening = asyncio.Lock()
        self._lease: ModelLease | None = None

    @property
    def version(self) -> str:
        """The version of vLLM."""
        return "unknown" if self._lease is None else self._lease.version

    @property
    def context_length(self) -> int:
        """The server's context in tokens; 0 before the session is opened."""
        return 0 if self._lease is None else self._lease.context_length

    async def open(self) -> None:
        """Take a lease. Waits while the device is busy, and while the model is being loaded."""
        deadline = monotonic() + self._access.wait_seconds
        failures = 0
        body = self._request.model_dump(mode="json")
        while True:
            try:
                answer = await self._client.post("/v1/leases", json=body)
                if answer.is_success:
                    self._lease = ModelLease.model_validate_json(answer.content)
                    if self._lease.attached:
                        await self._check(self)
                    return
                raise _error_of_server(answer)
            except (httpx.ConnectError, httpx.ConnectTimeout, DeviceBusy) as error:
                if monotonic() > deadline:
                    raise _final_error(error) from error
            except (httpx.TransportError, Unavailable) as error:
                failures += 1
                if failures >= _MAX_STARTS:
                    raise _final_error(error) from error
            await asyncio.sleep(self._access.pause_seconds)

    async def close(self) -> None:
        """End the lease. Where this call fails, the model server ends the unused lease within a minute."""
        await self._end(self._lease)

    async def tokens(self) -> ServedTokens | None:
        """The server's token counters; None if it gives none."""
        with suppress(httpx.HTTPError, ValueError):
            answer = await self._client.get("/v1/tokens", timeout=_CONNECT_SECONDS)
            return ServedTokens.model_validate_json(answer.raise_for_status().content)
        return None

    async def complete(self, request: CompletionRequest, model: str) -> Any:
        """vLLM's response as JSON.

        Raises ContextTooLong, ModelRejected (an adapter that vLLM cannot load), and Unavailable if the server was
        lost five times during this request: a server of many gigabytes takes long to die and to restart.
        """
        losses = 0
        while True:
            lease = self._lease
            try:
                return await self.ask(request, model)
            except (httpx.TransportError, NotFound, Unavailable) as error:
                losses += 1
                if losses >= _MAX_LOSSES:
                    raise Unavailable(
                        f"vLLM was lost {losses} times while it answered {request.id}: {error}",
                        hint="See vLLM's log; the stage continues where it was.",
                    ) from error
            pause = exponential_backoff(
                losses, first=self._access.pause_seconds, longest=math.inf, factor=_PAUSE_GROWTH
            )
            await asyncio.sleep(pause)
            async with self._opening:
                if self._lease is lease:  # no other request has taken a new lease meanwhile
                    await self.open()
                    await self._end(lease)

    async def _end(self, lease: ModelLease | None) -> None:
        if lease is not None:
            with suppress(httpx.HTTPError):
                await self._client.delete(f"/v1/leases/{lease.id}", timeout=_CONNECT_SECONDS)

    async def ask(self, request: CompletionRequest, model: str) -> Any:
        """vLLM's response as JSON. What `complete` asks again for is raised, as httpx.TransportError among others."""
        answer = await self._post("/v1/completions", {"model": model, **request.body})
        if answer.is_success:
            return _whole(answer.json(), request)
        raise _error_of_vllm(answer, request, model)

    async def tokens_of(self, body: Mapping[str, Any]) -> list[int]:
        """The server's own tokens, for a body of vLLM's `/tokenize`. Raises as `ask`."""
        answer = await self._post("/v1/tokenize", body)
        if answer.is_success:
            return [int(token) for token in answer.json()["tokens"]]
        raise _error_of_vllm(answer, CompletionRequest("a text", body), str(body.get("model")))

    async def _post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        assert self._lease is not None  # noqa: S101 - a session is opened before it is used
        answer = await self._client.post(path, json=body, headers={LEASE_HEADER: self._lease.id})
        if answer.headers.get("content-type", "").startswith(PROBLEM_MEDIA_TYPE):
            raise _error_of_server(answer)
        return answer


def _whole(response: Any, request: CompletionRequest) -> Any:
    """The response, if each of its replies ended by itself or at its limit.

    Raises Unavailable for others: a server that is being stopped or put to sleep aborts replies, and what they have so
    far reads like a short reply.
    """
    ends = [choice.get("finish_reason") for choice in response.get("choices", [])]
    if aborted := [end for end in ends if end not in _WHOLE]:
        raise Unavailable(f"vLLM ended {len(aborted)} of {len(ends)} replies to {request.id} early ({aborted[0]}).")
    return response


def _error_of_server(answer: httpx.Response) -> CraftError:
    return error_from_problem(answer, peer="The model server", set_by="CRAFT_MODEL_SERVER_TOKEN")


def _error_of_vllm(answer: httpx.Response, request: CompletionRequest, model: str) -> CraftError:
    """The stage's error for an error of vLLM itself, which comes in OpenAI's envelope."""
    try:
        message = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = answer.text[:500]
    if answer.status_code >= 500:
        return Unavailable(f"vLLM answered {answer.status_code}: {message}")
    if answer.status_code == 404 or "LoRA" in message:
        return ModelRejected(
            f"vLLM does not serve {model}: {message}",
            hint="An adapter must be of this base model, and its rank within CRAFT_INFERENCE__VLLM__MAX_LORA_RANK. A "
            "server of your own must read CRAFT_ADAPTERS_DIR (decision 0005 says how).",
            param="adapter",
        )
    if "maximum context length" in message or "max_model_len" in message:
        return ContextTooLong(
            f"The prompt of {request.id} is too long for vLLM: {message}",
            hint="Shorten the question or the shots, or raise CRAFT_INFERENCE__VLLM__MAX_MODEL_LEN.",
            param="messages",
        )
    return Internal(f"vLLM refused the request for {request.id}: {message}")


def _final_error(error: Exception) -> CraftError:
    if isinstance(error, CraftError):
        return error
    return Unavailable(
        f"The model server does not answer: {error or type(error).__name__}.",
        hint="Start it with `craft up`, or set CRAFT_MODEL_SERVER_URL.",
    )
