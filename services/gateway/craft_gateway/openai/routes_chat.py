"""OpenAI's routes of models and chat completions, for deployed adapters."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any, ClassVar

import anyio
from fastapi import APIRouter, Body, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from craft.contracts.openai.chat import ChatRequest, OpenAiError, OpenAiErrorBody, ServedModel, ServedModelList
from craft.contracts.services.model_server import ServedBase
from craft.contracts.spec.jobs import PlainText
from craft.errors import CraftError, Unavailable
from craft.infra.http.bodies import unread_body
from craft.infra.http.disconnect import cancel_on_disconnect
from craft.infra.http.openapi import OpenApiResponses
from craft_gateway.access.authorisation import MODELS, CallerOf, authorised
from craft_gateway.access.owners import OwnerLookup
from craft_gateway.http.bodies import text_body, with_body
from craft_gateway.openai.errors import (
    NO_SUCH_MODEL,
    OPENAI_RESPONSES,
    error_of,
    error_response,
    invalid_request,
    upstream_error,
)
from craft_gateway.openai.examples import CHAT_COMPLETION, CHAT_EXAMPLES
from craft_gateway.serving.deployments import Deployments
from craft_gateway.serving.model_server import ModelServer, ModelServerReply
from craft_gateway.store.tables import Deployment

MAX_CHAT_BYTES = 4 * 2**20
_MAX_ERROR_BYTES = 2**16
_STREAM = "text/event-stream"
_NOT_FORWARDED = {"user"}
_ANSWERS: OpenApiResponses = {
    200: {
        "description": "OpenAI's `chat.completion`; with `stream` its chunks as server-sent events up to `[DONE]`.",
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": CHAT_COMPLETION},
            _STREAM: {"schema": {"type": "string"}, "example": 'data: {"choices":[…]}\n\ndata: [DONE]\n\n'},
        },
    },
    **NO_SUCH_MODEL,
    503: {
        "description": "The model server is away, starting, or its device is taken: try again after `Retry-After`.",
        "model": OpenAiErrorBody,
    },
}


class OpenAiRoute(APIRoute):
    """A route with a bounded body that answers errors in OpenAI's envelope and notices when the client disconnects."""

    max_bytes: ClassVar[int | None] = MAX_CHAT_BYTES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute.get_route_handler`."""
        handle = super().get_route_handler()

        async def with_envelope(request: Request) -> Response:
            try:
                if request.method == "POST" and self.max_bytes is not None:
                    body = await text_body(request, max_bytes=self.max_bytes, hint="Send less.")
                    request = with_body(request, body)
                return await handle(request)
            except RequestValidationError as error:
                unread = unread_body(error, request.headers)
                return invalid_request(error.errors()) if unread is None else error_of(unread)
            except CraftError as error:
                return error_of(error)
            except HTTPException as error:
                return error_response(error.status_code, str(error.detail), code="invalid_value")

        return with_envelope


class RelayedResponse(StreamingResponse):
    """Relays the model server's answer byte for byte, and closes its connection however the relay ends."""

    def __init__(self, reply: ModelServerReply) -> None:
        self._reply = reply
        streams = reply.media_type.startswith(_STREAM)
        kind = reply.media_type or "application/json"
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Content-Type": kind}
        super().__init__(_with_error_event(reply.chunks) if streams else reply.chunks, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `Response.__call__`."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._reply.close()


def router(
    owners: OwnerLookup, deployments: Deployments, model_server: ModelServer, *, seeds_requests: bool
) -> APIRouter:
    """Build the routes. `seeds_requests`: the model server takes a seed."""
    routes = APIRouter(
        tags=["serving"],
        route_class=OpenAiRoute,
        responses=OPENAI_RESPONSES,
        dependencies=authorised(owners, MODELS),
    )

    @routes.get("/models", operation_id="listModels")
    def list_models(caller: CallerOf) -> ServedModelList:
        """List every deployed adapter, newest first. Its `id` is the `model` of `/v1/chat/completions`."""
        return ServedModelList(data=[_model(row) for row in deployments.listed(caller.team)])

    @routes.get("/models/{model:path}", operation_id="getModel", responses=NO_SUCH_MODEL)
    def get_model(model: Annotated[PlainText, Path(max_length=300)]) -> ServedModel:
        """Return one deployed adapter."""
        return _model(deployments.find(model))

    @routes.post("/chat/completions", operation_id="createChatCompletion", response_class=Response, responses=_ANSWERS)
    async def create_chat_completion(
        request: Request, caller: CallerOf, chat: Annotated[ChatRequest, Body(openapi_examples=CHAT_EXAMPLES)]
    ) -> Response:
        """Return a reply of a deployed adapter in the form of OpenAI's API; `stream` sends it token by token.

        The model refuses questions that it cannot answer; a refusal is a reply like any other.
        """
        await owners.check(caller, {"model": chat.model})
        base = await run_in_threadpool(deployments.base_of, chat.model)
        left_out = _NOT_FORWARDED if seeds_requests else {*_NOT_FORWARDED, "seed"}
        body = chat.model_dump_json(exclude=left_out, exclude_none=True).encode()
        reply = await cancel_on_disconnect(request, model_server.chat(body, base=base))
        if reply is None:
            raise Unavailable("The client has disconnected.")
        if reply.status == 200:
            return RelayedResponse(reply)
        try:
            return upstream_error(reply.status, await _start_of(reply.chunks), reply.retry_after)
        finally:
            await reply.close()

    return routes


def _model(row: Deployment) -> ServedModel:
    base = ServedBase.model_validate(row.base)
    return ServedModel(id=row.id, created=int(row.created_at.timestamp()), parent=base.model.id)


async def _start_of(chunks: AsyncIterator[bytes]) -> bytes:
    """Read the first bytes of an error's body; an error needs no more."""
    start = bytearray()
    async for chunk in chunks:
        start += chunk
        if len(start) > _MAX_ERROR_BYTES:
            break
    return bytes(start)


async def _with_error_event(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """End an event stream that breaks off between two events with an error event, which OpenAI's clients raise."""
    end = b"\n\n"
    try:
        async for chunk in chunks:
            end = (end + chunk)[-2:]
            yield chunk
    except Unavailable as error:
        if end != b"\n\n":
            raise
        body = OpenAiErrorBody(error=OpenAiError(message=error.message, type="server_error", code=error.code))
        yield f"data: {body.model_dump_json()}\n\n".encode()
