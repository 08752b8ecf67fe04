"""Errors for request bodies that cannot be read as JSON at all."""

import json
from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError

from craft.errors import RequestInvalid

_JSON = "`Content-Type: application/json`"
_MAX_TYPE_LENGTH = 100


def unread_body(error: RequestValidationError, headers: Mapping[str, str]) -> RequestInvalid | None:
    """The error of the body as a whole; None if the body was read and one of its fields is wrong."""
    body_errors = [detail for detail in error.errors() if detail["loc"][:1] == ("body",)]
    if not body_errors:
        return None
    first = body_errors[0]
    if first["type"] == "json_invalid":
        return not_json(json.JSONDecodeError(first["ctx"]["error"], str(error.body), first["loc"][1]))
    # The framework passes on the bytes of a body that it does not take for JSON.
    if isinstance(error.body, bytes) and error.body:
        kind = headers.get("content-type", "")[:_MAX_TYPE_LENGTH]
        return RequestInvalid(
            f"The body was not read as JSON: {f'its Content-Type is {kind}' if kind else 'it has no Content-Type'}.",
            hint=f"Send it with {_JSON}: curl does with --json, or with -H 'Content-Type: application/json'.",
            param="Content-Type",
        )
    if first["type"] == "missing" and first["loc"] == ("body",):
        return RequestInvalid("The request has no body.", hint=f"Send JSON, with {_JSON}.")
    return None


def not_json(error: json.JSONDecodeError) -> RequestInvalid:
    """The error for a body that the JSON parser cannot read."""
    return RequestInvalid(
        f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
        hint="Correct it there. Names and texts need double quotes, and no comma may follow the last member.",
    )
