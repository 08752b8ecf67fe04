"""The engine's side of the model server: hold, ask, count, let go; asking again where the server was lost."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import httpx
from pydantic import SecretStr

from craft.contracts.problems import PROBLEM_MEDIA_TYPE
from craft.contracts.services.model_server import LEASE_HEADER, ModelLease, ModelLeaseRequest, ServedBase, ServedTokens
from craft.errors import ContextTooLong, CraftError, DeviceBusy, Internal, ModelRejected, NotFound, Unavailable
from craft.infra.http.problem_client import error_from_problem

_MOST_STARTS = 3
_MOST_LOSSES = 5
_PAUSE_GROWS = 4
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Question:
    """One request's body, without the model's name; the id names it in errors."""

    id: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """Where the model server is and how to deal with it.

    `has_turn`: the caller works under the device's turn. `patience_seconds`: how long to wait for a busy device, for a
    model to be loaded, or for a model server that is being started again. `pause_seconds`: before asking again.
    """

    url: str
    token: SecretStr
    has_turn: bool
    patience_seconds: float
    pause_seconds: float = 1.0


@asynccontextmanager
async def lease_model(
    access: ServerAccess, base: ServedBase, *, transport: httpx.AsyncBaseTransport | None = None
) -> "AsyncIterator[VllmSession]":
    """A session on the base model, which stays served until the block ends. Raises what `POST /v1/holds` answers."""
    client = httpx.AsyncClient(
        base_url=access.url,
        headers={"Authorization": f"Bearer {access.token.get_secret_value()}"},
        timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=None),
        transport=transport,
    )
    async with client:
        session = VllmSession(access, base, client)
        await session.open()
        try:
            yield session
        finally:
            await session.close()


class VllmSession:
    """Questions under one hold; another hold is taken where the first is lost with its server."""

    def __init__(self, access: ServerAccess, base: ServedBase, client: httpx.AsyncClient) -> None:
        self._access = access
        self._base = base
        self._client = client
        self._opening = asyncio.Lock()
        self._hold: ModelLease | None = None

    @property
    def version(self) -> str:
        """Of vLLM."""
        return "unknown" if self._hold is None else self._hold.version

    async def open(self) -> None:
        """Take a hold: waits while the device is busy, and for a model to be loaded."""
        deadline = monotonic() + self._access.patience_seconds
        failures = 0
        body = ModelLeaseRequest(base=self._base, has_turn=self._access.has_turn).model_dump(mode="json")
        while True:
            try:
                answer = await self._client.post("/v1/holds", json=body)
                if answer.is_success:
                    self._hold = ModelLease.model_validate_json(answer.content)
                    return
                raise _refusal(answer)
            except (httpx.ConnectError, httpx.ConnectTimeout, DeviceBusy) as error:
                if monotonic() > deadline:
                    raise _lasting(error) from error
            except (httpx.TransportError, Unavailable) as error:
                failures += 1
                if failures >= _MOST_STARTS:
                    raise _lasting(error) from error
            await asyncio.sleep(self._access.pause_seconds)

    async def close(self) -> None:
        """Let go; a model server that does not hear it notices within a minute."""
        await self._let_go(self._hold)

    async def tokens(self) -> ServedTokens | None:
        """The server's counters, None where it does not tell."""
        with suppress(httpx.HTTPError, ValueError):
            answer = await self._client.get("/v1/tokens", timeout=_CONNECT_SECONDS)
            return ServedTokens.model_validate_json(answer.raise_for_status().content)
        return None

    async def complete(self, question: Question, model: str) -> Any:
        """vLLM's answer to the question, as JSON.

        Raises ContextTooLong, ModelRejected (an adapter that it cannot load), Unavailable where the server was lost
        under this question five times: a dying server of many gigabytes takes its time, and so does a restarted one.
        """
        losses = 0
        while True:
            hold = self._hold
            try:
                return await self._once(question, model)
            except (httpx.TransportError, NotFound, Unavailable) as error:
                losses += 1
                if losses >= _MOST_LOSSES:
                    raise Unavailable(
                        f"vLLM was lost {losses} times while it answered {question.id}.",
                        hint="See vLLM's log; the stage goes on where it was.",
                    ) from error
            await asyncio.sleep(self._access.pause_seconds * _PAUSE_GROWS ** (losses - 1))
            async with self._opening:
                if self._hold is hold:  # nobody else took a new one meanwhile
                    await self.open()
                    await self._let_go(hold)

    async def _let_go(self, hold: ModelLease | None) -> None:
        if hold is not None:
            with suppress(httpx.HTTPError):
                await self._client.delete(f"/v1/holds/{hold.id}", timeout=_CONNECT_SECONDS)

    async def _once(self, question: Question, model: str) -> Any:
        assert self._hold is not None  # noqa: S101 - a session is opened before it is used
        answer = await self._client.post(
            "/v1/completions", json={"model": model, **question.body}, headers={LEASE_HEADER: self._hold.id}
        )
        if answer.is_success:
            return answer.json()
        if answer.headers.get("content-type", "").startswith(PROBLEM_MEDIA_TYPE):
            raise _refusal(answer)
        raise _vllm_error(answer, question, model)


def _refusal(answer: httpx.Response) -> CraftError:
    return error_from_problem(answer, peer="The model server", set_by="CRAFT_MODEL_SERVER_TOKEN")


def _vllm_error(answer: httpx.Response, question: Question, model: str) -> CraftError:
    """What an error of vLLM's own, in OpenAI's envelope, means to a stage."""
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
            f"The prompt of {question.id} is too long for vLLM: {message}",
            hint="Shorten the question or the shots, or raise CRAFT_INFERENCE__VLLM__MAX_MODEL_LEN.",
            param="messages",
        )
    return Internal(f"vLLM refused the request for {question.id}: {message}")


def _lasting(error: Exception) -> CraftError:
    if isinstance(error, CraftError):
        return error
    return Unavailable(
        f"The model server does not answer: {error or type(error).__name__}.",
        hint="Start it with `craft up`, or set CRAFT_MODEL_SERVER_URL.",
    )
