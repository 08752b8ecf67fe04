"""The model server's HTTP routes.

Only the two calls of vLLM that complete text, and the one that counts its tokens, are passed on. Its other calls load
any folder as an adapter or pause the engine, and need no credentials.
"""

import json
from contextlib import AsyncExitStack
from typing import Annotated

import httpx
from fastapi import APIRouter, Depends, Header, Path, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import SecretStr, ValidationError
from starlette.types import Receive, Scope, Send

from craft.contracts.services.model_server import (
    BASE_MODEL_HEADER,
    LEASE_HEADER,
    ModelLease,
    ModelLeaseRequest,
    ServedBase,
    ServedTokens,
    ServerView,
)
from craft.contracts.validation import validation_message
from craft.errors import (
    DeviceFailed,
    GpuOutOfMemory,
    HostOutOfMemory,
    ModelNotFound,
    ModelRejected,
    NotFound,
    RequestInvalid,
    Unauthenticated,
    Unavailable,
)
from craft.infra.http.bearer import bearer_check
from craft.infra.http.disconnect import cancel_on_disconnect
from craft.infra.http.openapi import documented
from craft_inference.model_server.adapter_chats import AdapterChats
from craft_inference.model_server.supervisor import ServerSupervisor

_STARTING = documented(ModelNotFound, ModelRejected, DeviceFailed, GpuOutOfMemory, HostOutOfMemory, Unavailable)
_JSON = "application/json"
LeaseId = Annotated[str, Path(max_length=100)]


def router(supervisor: ServerSupervisor, *, token: SecretStr, chats: AdapterChats) -> APIRouter:
    """The routes; every call needs the workers' bearer token."""
    routes = APIRouter(
        prefix="/v1",
        tags=["model server"],
        dependencies=[Depends(bearer_check(token))],
        responses=documented(Unauthenticated),
    )

    @routes.post("/leases", operation_id="leaseModel", responses=_STARTING)
    async def lease(body: ModelLeaseRequest) -> ModelLease:
        """Serve a base model until the lease ends. Returns when vLLM answers."""
        return await supervisor.lease(body)

    @routes.delete("/leases/{lease_id}", operation_id="endLease")
    async def end_lease(lease_id: LeaseId) -> ServerView:
        """End a lease; from now on another model may take this one's place."""
        supervisor.end_lease(lease_id)
        return supervisor.view()

    @routes.post("/release", operation_id="releaseDevice")
    async def release() -> ServerView:
        """Stop vLLM, for a caller that has the device lock and needs the memory. Returns when the memory is free."""
        return await supervisor.release_device()

    @routes.get("/server", operation_id="showServer")
    async def show() -> ServerView:
        """The state of vLLM."""
        return supervisor.view()

    @routes.get("/tokens", operation_id="countTokens", responses=documented(Unavailable))
    async def tokens() -> ServedTokens:
        """The prompt tokens that vLLM has counted."""
        return await supervisor.tokens()

    @routes.post("/completions", operation_id="complete", response_class=Response, responses=documented(NotFound))
    async def complete(request: Request, lease_id: Annotated[str, Header(alias=LEASE_HEADER)]) -> Response:
        """vLLM's own call, under a lease."""
        body = await request.body()
        async with supervisor.leased_client(lease_id) as client:
            return await _forward(request, client, "/v1/completions", body)

    @routes.post("/tokenize", operation_id="tokenize", response_class=Response, responses=documented(NotFound))
    async def tokenize(request: Request, lease_id: Annotated[str, Header(alias=LEASE_HEADER)]) -> Response:
        """vLLM's own call, under a lease: a stage compares a server of the team's own with the tokenizer here."""
        body = await request.body()
        async with supervisor.leased_client(lease_id) as client:
            return await _forward(request, client, "/tokenize", body)

    @routes.post("/chat/completions", operation_id="chat", response_class=Response, responses=_STARTING)
    async def chat(request: Request, base_model: Annotated[str, Header(alias=BASE_MODEL_HEADER)]) -> Response:
        """vLLM's own call, in the adapter's form of chats, streamed where the body asks for it."""
        body = await chats.completed(await request.body())
        base = _base(base_model)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(supervisor.client_for(base))
            if not _wants_stream(body):
                return await _forward(request, client, "/v1/chat/completions", body)
            answer = await cancel_on_disconnect(request, _send(client, "/v1/chat/completions", body, stream=True))
            if answer is None:
                return _caller_disconnected()
            stack.push_async_callback(answer.aclose)
            if not answer.is_success:
                return _copy(answer, await answer.aread())
            return _Stream(answer, stack.pop_all())

    return routes


class _Stream(StreamingResponse):
    """Streams vLLM's response. Closes it at its end, or when our caller disconnects, even before the first byte."""

    def __init__(self, answer: httpx.Response, closing: AsyncExitStack) -> None:
        super().__init__(answer.aiter_bytes(), answer.status_code, media_type=_media_type(answer))
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._closing:
            await super().__call__(scope, receive, send)


async def _forward(request: Request, client: httpx.AsyncClient, path: str, body: bytes) -> Response:
    """Send the request to vLLM and return its response unchanged."""
    answer = await cancel_on_disconnect(request, _send(client, path, body, stream=False))
    return _caller_disconnected() if answer is None else _copy(answer, answer.content)


def _caller_disconnected() -> Response:
    return Response(status_code=499)


async def _send(client: httpx.AsyncClient, path: str, body: bytes, *, stream: bool) -> httpx.Response:
    try:
        request = client.build_request("POST", path, content=body, headers={"Content-Type": _JSON})
        return await client.send(request, stream=stream)
    except httpx.HTTPError as error:
        raise Unavailable(f"vLLM did not answer: {type(error).__name__}.", hint="It is started again.") from error


def _copy(answer: httpx.Response, content: bytes) -> Response:
    return Response(content, status_code=answer.status_code, media_type=_media_type(answer))


def _media_type(answer: httpx.Response) -> str:
    return str(answer.headers.get("content-type", _JSON))


def _base(header: str) -> ServedBase:
    try:
        return ServedBase.model_validate_json(header)
    except ValidationError as error:
        raise RequestInvalid(
            f"{BASE_MODEL_HEADER} is no base model: {validation_message(error.errors()[0])}."
        ) from error


def _wants_stream(body: bytes) -> bool:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(parsed, dict) and bool(parsed.get("stream"))
