"""Answers every error of an HTTP service with a problem document (RFC 9457)."""

import http.client
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from craft.contracts.problems import PROBLEM_MEDIA_TYPE, Problem
from craft.contracts.validation import sentence, validation_message
from craft.errors import (
    CraftError,
    ErrorDetail,
    Fault,
    RequestInvalid,
    Unauthenticated,
    Unavailable,
)
from craft.infra.http.bodies import unread_body
from craft.infra.http.openapi import Describe, openapi

_log = logging.getLogger("craft.http")
_MAX_FIELD_LENGTH = 200
_MAX_MESSAGE_LENGTH = 300
_MAX_EXCERPT_LENGTH = 120
_MAX_ERRORS = 100
_RETRY_AFTER_SECONDS = 5
_ALTERNATIVE = re.compile(r"(?:list|dict|tuple|set|literal|function-[a-z]+|nullable|constrained-[a-z]+)\[")
_NAMED = re.compile(r"\\\{[^/]+\\\}")
_WAIT_AND_RETRY = frozenset({429, 503})
_CODES: Mapping[int, str] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    413: "payload_too_large",
    422: "request_invalid",
    500: "internal",
    503: "unavailable",
}


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as a response; with Retry-After where waiting may help."""
    extra = dict(headers or {})
    if problem.status in _WAIT_AND_RETRY:
        extra.setdefault("Retry-After", str(_RETRY_AFTER_SECONDS))
    body = json.dumps(problem.model_dump(mode="json"), ensure_ascii=True, allow_nan=False).encode()
    return Response(body, status_code=problem.status, media_type=PROBLEM_MEDIA_TYPE, headers=extra)


def error_headers(error: CraftError) -> Mapping[str, str]:
    """The headers that an error needs."""
    return {"WWW-Authenticate": "Bearer", **error.headers} if isinstance(error, Unauthenticated) else error.headers


def status_problem(status: int, detail: str, *, hint: str | None = None, request_id: str | None) -> Problem:
    """The problem for a plain HTTP status, such as the framework's own 404 and 405."""
    phrase = http.client.responses.get(status, "Error")
    code = _CODES.get(status) or phrase.lower().replace(" ", "_").replace("-", "_")
    return Problem(
        type=f"urn:craft:problem:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=clipped(detail, _MAX_MESSAGE_LENGTH) or phrase,
        code=code,
        fault=Fault.USER if status < 500 else Fault.SYSTEM,
        retryable=status in _WAIT_AND_RETRY,
        hint=hint,
        request_id=request_id,
    )


def clipped(text: str, most: int) -> str:
    """At most `most` characters that can be encoded: lone surrogates become question marks."""
    short = text if len(text) <= most else f"{text[: most - 1]}…"
    return short.encode("utf-8", "replace").decode()


def validation_details(
    errors: Sequence[Mapping[str, Any]], *, body: type[BaseModel] | None = None
) -> list[ErrorDetail]:
    """The wrong places of the input, with field paths such as `dataset.rows.3.question`; long input is never echoed.

    A place that may have one of several types is wrong once, with the reasons for each. `body` is the body's model.
    """
    places: dict[str, list[Mapping[str, Any]]] = {}
    for number, error in enumerate(errors):
        location = error.get("loc", ())
        # Errors of the whole input, and further ones of a place with one type only, stay apart.
        alternative = any(_is_alternative(part) for part in location)
        places.setdefault(_path(location) if alternative else f"{number}:", []).append(error)
    return [_detail(together, body) for together in list(places.values())[:_MAX_ERRORS]]


def _detail(errors: Sequence[Mapping[str, Any]], body: type[BaseModel] | None) -> ErrorDetail:
    messages = dict.fromkeys(validation_message(error, body=body) for error in errors)
    return ErrorDetail(
        message=clipped("; or ".join(messages), _MAX_MESSAGE_LENGTH),
        field=clipped(_path(errors[0].get("loc", ())), _MAX_FIELD_LENGTH) or None,
        excerpt=_excerpt(errors[0].get("input")),
    )


def _is_alternative(part: int | str) -> bool:
    """True if a part of a path is no field but one of the types that the field before it may have."""
    return isinstance(part, str) and _ALTERNATIVE.match(part) is not None


def _path(location: Sequence[int | str]) -> str:
    parts = location[1:] if location and location[0] in {"body", "query", "path", "header"} else location
    return ".".join(str(part) for part in parts if not _is_alternative(part) and part != "[key]")


def _excerpt(value: object) -> str | None:
    """An excerpt of a scalar; None for containers, whose text is long and mostly right."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return clipped(value[: _MAX_EXCERPT_LENGTH + 1], _MAX_EXCERPT_LENGTH)
    if isinstance(value, bool | float):
        return str(value)
    if isinstance(value, int):
        # Python does not print integers of thousands of digits.
        return str(value) if value.bit_length() < 256 else "a number of more than 76 digits"
    return None


def error_response(error: CraftError, *, request_id: str | None) -> Response:
    """The error as a problem document. Errors of the server are logged."""
    if error.status >= 500:
        # While another part does not answer, all requests fail alike: a trace for each would fill the log.
        away = isinstance(error, Unavailable)
        cause = str(error.__cause__)[:_MAX_MESSAGE_LENGTH] if away and error.__cause__ else None
        fields = {"code": error.code, "detail": error.message, "cause": cause}
        _log.warning("request_failed", extra=fields, exc_info=None if away else error)
    return problem_response(Problem.of(error, request_id=request_id), error_headers(error))


def install(app: FastAPI, *, describe: Describe | None = None) -> None:
    """Give the application its error handlers and an OpenAPI document with the Problem schema.

    `describe` may add to the document.
    """

    async def craft_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, CraftError)  # noqa: S101 - the registration below says so; mypy cannot know
        return error_response(error, request_id=_request_id(request))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
        unread = unread_body(error, request.headers)
        if unread is not None:
            return await craft_error(request, unread)
        details = validation_details(error.errors(), body=_body_model(request))
        first = details[0] if details else None
        where = "" if first is None else sentence(first.field, first.message)
        return await craft_error(
            request,
            RequestInvalid(
                f"The request does not have the documented form. {where}".strip(),
                hint="`errors` names each field that is wrong; /docs shows the form of every request.",
                param=first.field if first else None,
                details=details,
            ),
        )

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - as above
        if error.status_code == HTTPStatus.BAD_REQUEST:
            # The framework answers 400 for a body that its parser cannot read.
            hint = "Send JSON in UTF-8, not nested hundreds of times and without numbers of thousands of digits."
            return await craft_error(request, RequestInvalid("The body cannot be read.", hint=hint))
        headers: Mapping[str, str] | None = error.headers
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and (methods := _allowed(app, request.url.path)):
            headers = {"Allow": ", ".join(methods)}
        problem = status_problem(
            error.status_code,
            str(error.detail),
            hint=status_hint(app, error.status_code, request.url.path),
            request_id=_request_id(request),
        )
        return problem_response(problem, headers)

    app.add_exception_handler(CraftError, craft_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.openapi = lambda: openapi(app, describe)  # type: ignore[method-assign]  # FastAPI documents this way to extend it


def _body_model(request: Request) -> type[BaseModel] | None:
    """The model of the request's body, if the route has one."""
    field = getattr(request.scope.get("route"), "body_field", None)
    annotation = None if field is None else field.field_info.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def status_hint(app: FastAPI, status: int, path: str) -> str | None:
    """A hint for the framework's own 404 and 405."""
    if status == HTTPStatus.NOT_FOUND:
        return "There is no such path: /docs shows those that there are, and /openapi.json lists them."
    methods = _allowed(app, path) if status == HTTPStatus.METHOD_NOT_ALLOWED else ()
    return f"This path takes {', '.join(methods)}." if methods else None


def _allowed(app: FastAPI, path: str) -> list[str]:
    """The documented methods of a path; the framework names only those of the first route."""
    paths: dict[str, Any] = app.openapi()["paths"]
    matching = [template for template in paths if re.fullmatch(_NAMED.sub("[^/]+", re.escape(template)), path)]
    # `/jobs/validate` also matches `/jobs/{job_id}`.
    closest = min(matching, key=lambda template: template.count("{"), default=None)
    if closest is None:
        return []
    # The edge answers HEAD wherever there is a GET.
    return sorted({method.upper() for method in paths[closest]} | ({"HEAD"} if "get" in paths[closest] else set()))


def _request_id(request: Request) -> str | None:
    return getattr(request.state, "request_id", None)
