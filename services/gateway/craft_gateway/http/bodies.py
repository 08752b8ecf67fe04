"""Reads JSON bodies: bounded, UTF-8, and checked against a contract."""

import gc
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Message

from craft.errors import PayloadTooLarge, RequestInvalid

MAX_JSON_BYTES = 32 * 2**20
MAX_JSON_MARKS = 1_000_000
"""Commas and opening brackets of a body, also those within texts: more than 10,000 rows of prose have."""
_AS_FILE = "Upload the rows as a file: POST /craft/datasets as multipart/form-data."
ModelT = TypeVar("ModelT", bound=BaseModel)


async def text_body(request: Request, *, max_bytes: int = MAX_JSON_BYTES, hint: str = _AS_FILE) -> bytes:
    """Read the whole body into memory; for JSON, as files are streamed.

    Raises PayloadTooLarge above `max_bytes` and for too many values, with `hint`; RequestInvalid if the body is not
    UTF-8.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise PayloadTooLarge(
                f"A JSON body may have {max_bytes:,} bytes.",
                hint=hint,
            )
    # Nothing else runs in this process while the parser does: ten megabytes of empty lists would take it seconds.
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MAX_JSON_MARKS:
        raise PayloadTooLarge(f"A JSON body may have {MAX_JSON_MARKS:,} commas and opening brackets.", hint=hint)
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestInvalid(
            f"The body is not UTF-8: byte {error.start} cannot be read.",
            hint="Send JSON in UTF-8; to send a file in another form, upload it as a dataset.",
        ) from None
    return bytes(body)


def parsed_json(body: bytes) -> Any:
    """Parse the result of `text_body`. Raises json.JSONDecodeError and its like."""
    collecting = gc.isenabled()
    # The collector would look at all values again and again while they are made.
    gc.disable()
    try:
        return json.loads(body)
    finally:
        if collecting:
            gc.enable()


class _ReadRequest(Request):
    """A request whose body was read before; its JSON is parsed by `parsed_json`."""

    async def json(self) -> Any:
        """See `Request.json`."""
        return parsed_json(await self.body())


def with_body(request: Request, body: bytes) -> Request:
    """Return the request with `body` as its body, to be read once more; the server's own messages follow it.

    Such a message says that the client has disconnected.
    """
    replayed = False

    async def receive() -> Message:
        nonlocal replayed
        if replayed:
            return await request.receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return _ReadRequest(request.scope, receive)


def form_codes(fields: Sequence[object]) -> list[str]:
    """The codes in a form's fields of one name, of which each may hold several by commas."""
    return [code.strip() for field in fields for code in str(field).split(",") if code.strip()]


def validated(model: type[ModelT], value: object) -> ModelT:
    """Return `value` as a model. Raises RequestValidationError, which reports errors as for any request body."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise RequestValidationError([{**e, "loc": ("body", *e["loc"])} for e in error.errors()]) from error


class TextBodyRoute(APIRoute):
    """A route that reads its body with `text_body` before the framework parses it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute.get_route_handler`."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            if request.method in {"GET", "HEAD"}:
                return await handle(request)
            return await handle(with_body(request, await text_body(request)))

        return checked
