"""Completes an HTTP service's OpenAPI document with every status that an operation may answer."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from craft.contracts.problems import PROBLEM_MEDIA_TYPE, Problem, ProblemDetail
from craft.errors import CraftError, DiskFull, HostOutOfMemory, Internal, PayloadTooLarge, RequestInvalid, Unavailable

OpenApiResponses = dict[int | str, dict[str, Any]]
Describe = Callable[[dict[str, Any]], None]
"""Adds to an OpenAPI document."""

_PROBLEM_CONTENT = {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_FRAMEWORKS = ("HTTPValidationError", "ValidationError")
_FRAMEWORKS_422 = {"application/json": {"schema": {"$ref": f"#/components/schemas/{_FRAMEWORKS[0]}"}}}
_WRITING = frozenset({"post", "put", "patch", "delete"})


def documented(*errors: type[CraftError]) -> OpenApiResponses:
    """The `responses=` of a route that raises these errors, for OpenAPI: one entry for each status."""
    by_status: dict[int, list[type[CraftError]]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    return {
        status: {
            "description": " ".join(f"`{e.code}`: {(e.__doc__ or '').strip().splitlines()[0]}" for e in of_status),
            "content": _PROBLEM_CONTENT,
        }
        for status, of_status in by_status.items()
    }


def openapi(app: FastAPI, describe: Describe | None) -> dict[str, Any]:
    """The application's OpenAPI document, built once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in (Problem, ProblemDetail):
            own = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
            for name, definition in own.pop("$defs", {}).items():
                schemas.setdefault(name, definition)
            schemas.setdefault(model.__name__, own)
        for path in schema["paths"].values():
            for method, operation in path.items():
                _complete(method, operation)
        for name in _FRAMEWORKS:
            schemas.pop(name, None)
        if describe is not None:
            describe(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _complete(method: str, operation: dict[str, Any]) -> None:
    """Add the errors that any such operation may answer.

    An operation whose 500 is no problem document has its own error format, and is left as it is.
    """
    responses: dict[str, Any] = operation["responses"]
    if responses.get("422", {}).get("content") == _FRAMEWORKS_422:
        del responses["422"]
    if PROBLEM_MEDIA_TYPE in responses.get("500", {}).get("content", _PROBLEM_CONTENT):
        for status, response in _common(method, operation):
            responses.setdefault(str(status), response)
    operation["responses"] = dict(sorted(responses.items()))


def _common(method: str, operation: Mapping[str, Any]) -> Iterator[tuple[int | str, dict[str, Any]]]:
    body = operation.get("requestBody", {}).get("content", {})
    yield from documented(PayloadTooLarge, Internal, *((HostOutOfMemory,) if body else ()), Unavailable).items()
    if body or operation.get("parameters"):
        yield from documented(RequestInvalid).items()
    if method in _WRITING:
        yield from documented(DiskFull).items()
