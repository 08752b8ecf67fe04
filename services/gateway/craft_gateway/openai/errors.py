"""Renders errors in OpenAI's envelope, on the routes of OpenAI's API only."""

import http
import json
from collections.abc import Awaitable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from craft.contracts.openai.chat import OpenAiError, OpenAiErrorBody
from craft.contracts.problems import Problem
from craft.errors import CraftError, NotFound
from craft.infra.http.openapi import OpenApiResponses
from craft.infra.http.problems import status_hint, validation_details
from craft_gateway.http.responses import OPENAI_ROOT, ROOT

_RETRY_AFTER_SECONDS = "5"
_MAX_MESSAGE_LENGTH = 2_000
_MAX_RETRY_AFTER = 20
_MAX_PLACES = 5
_CODES = {"extra_forbidden": "unknown_parameter", "missing": "missing_required_parameter"}
_KINDS = {*("str", "int", "float"), *("constrained-str", "constrained-int", "constrained-float")}
OPENAI_RESPONSES: OpenApiResponses = {
    status: {"description": description, "model": OpenAiErrorBody}
    for status, description in {
        400: "The request is wrong.",
        401: "No valid key or token came with the request.",
        403: "The key or token is valid, and does not allow this.",
        404: "There is nothing of that name.",
        409: "The resource's state does not allow this.",
        413: "The body is larger than the server takes.",
        429: "Too many requests with one key.",
        500: "A defect of this system.",
        503: "A part of the system does not answer just now.",
        507: "No space is left.",
    }.items()
}
NO_SUCH_MODEL: OpenApiResponses = {
    404: {"description": "`model_not_found`: no such adapter is deployed.", "model": OpenAiErrorBody}
}


def missing(what: str) -> OpenApiResponses:
    """Return the OpenAPI response 404 of a route whose path has an id."""
    return {404: {"description": f"`not_found`: {what}.", "model": OpenAiErrorBody}}


def error_response(
    status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after: str | None = None
) -> Response:
    """Render an error in the envelope; 429 and 503 say when to try again."""
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    error = OpenAiError(message=message[:_MAX_MESSAGE_LENGTH], type=kind, param=param, code=code)
    seconds = retry_after if retry_after and len(retry_after) < _MAX_RETRY_AFTER else _RETRY_AFTER_SECONDS
    headers = {"Retry-After": seconds} if status in {429, 503} else None
    # JSON escapes the text, because a message may quote a lone surrogate.
    body = json.dumps(OpenAiErrorBody(error=error).model_dump(mode="json"))
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def error_of(error: CraftError) -> Response:
    """Render an error of the error tree in the envelope."""
    details = error.details[:_MAX_PLACES]
    places = [f"line {detail.line}: {detail.field}: {detail.message}" for detail in details if detail.line]
    message = " ".join([error.message, *places, *([error.hint] if error.hint else [])])
    if isinstance(error, NotFound):
        code = "not_found" if error.param else "model_not_found"
        return error_response(404, message, param=error.param or "model", code=code)
    # OpenAI's clients understand 400 as "the request is wrong"; they hardly know 422.
    status = 400 if error.status == http.HTTPStatus.UNPROCESSABLE_ENTITY else error.status
    return error_response(status, message, param=error.param, code=error.code)


def invalid_request(errors: Sequence[Mapping[str, Any]]) -> Response:
    """Render the first of a body's validation errors; there is at least one."""
    detail, kind = validation_details(errors[:1])[0], str(errors[0].get("type"))
    param = _member(detail.field or "")
    shown = f"{param}: {detail.message}." if param else f"{detail.message[:1].upper()}{detail.message[1:]}."
    return error_response(400, shown, param=param or None, code=_CODES.get(kind, "invalid_value"))


def upstream_error(status: int, body: bytes, retry_after: str | None) -> Response:
    """Render a refusal of the model server or of vLLM.

    Mistakes of the caller keep their status. Every other error behind this service becomes 503, or 500 where waiting
    does not help.
    """
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        return _vllm_error(status, body, retry_after)
    shown = f"The model cannot be served just now: {problem.detail}"
    return error_response(503 if problem.retryable else 500, shown, code=problem.code, retry_after=retry_after)


def _vllm_error(status: int, body: bytes, retry_after: str | None) -> Response:
    message, param = _upstream_message(body)
    if message is None or status >= 500 or status in {401, 403}:
        return error_response(503, "The model server does not answer just now.", code="unavailable")
    if status == 404:
        return error_response(404, message, param="model", code="model_not_found")
    if status == 429:
        return error_response(429, message, code="rate_limit_exceeded", retry_after=retry_after)
    too_long = "maximum context length" in message or "maximum model length" in message
    return error_response(400, message, param=param, code="context_length_exceeded" if too_long else "invalid_value")


def _upstream_message(body: bytes) -> tuple[str | None, str | None]:
    """Return message and parameter of a foreign error; older servers send it without the envelope."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None, None
    error = document.get("error", document) if isinstance(document, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return None, None
    param = error.get("param")
    return error["message"], param if isinstance(param, str) else None


def _member(path: str) -> str:
    """Return the request's member without the types that pydantic tried there (`stop.list[constrained-str].0`)."""
    return ".".join(takewhile(lambda part: part not in _KINDS and "[" not in part, path.split(".")))


def speaks_openai(path: str) -> bool:
    """Return whether a path belongs to OpenAI's API."""
    return path.startswith(f"{OPENAI_ROOT}/") and not path.startswith(f"{OPENAI_ROOT}{ROOT}")


def in_openais_form(scope: Scope, error: CraftError) -> Response | None:
    """Render the error in the envelope on OpenAI's paths; None on others."""
    return error_of(error) if speaks_openai(scope["path"]) else None


def answer_unknown_paths(app: FastAPI) -> None:
    """Render the 404 and 405 of OpenAI's unknown paths in the envelope too."""
    default_handler = app.exception_handlers[HTTPException]

    async def answered(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - the registration below says so; mypy cannot know
        result = default_handler(request, error)
        answer = await result if isinstance(result, Awaitable) else result
        if not speaks_openai(request.url.path):
            return answer
        hint = status_hint(app, error.status_code, request.url.path)
        message = f"{error.detail}. {hint}" if hint else str(error.detail)
        response = error_response(error.status_code, message, code="unknown_url")
        if "allow" in answer.headers:
            response.headers["Allow"] = answer.headers["Allow"]
        return response

    app.add_exception_handler(HTTPException, answered)
