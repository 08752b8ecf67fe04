"""Bodies that no field of is wrong, because they could not be read at all: what is said of them."""

import json
from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError

from craft.errors import RequestInvalid

_JSON = "`Content-Type: application/json`"
_LONGEST_TYPE = 100


def unread_body(error: RequestValidationError, headers: Mapping[str, str]) -> RequestInvalid | None:
    """What is wrong with the body as a whole; None where it was read, and something in it is wrong."""
    of_body = [each for each in error.errors() if each["loc"][:1] == ("body",)]
    if not of_body:
        return None
    first = of_body[0]
    if first["type"] == "json_invalid":
        return not_json(json.JSONDecodeError(first["ctx"]["error"], str(error.body), first["loc"][1]))
    # What the framework does not take for JSON it hands over as it came.
    if isinstance(error.body, bytes) and error.body:
        kind = headers.get("content-type", "")[:_LONGEST_TYPE]
        return RequestInvalid(
            f"The body was not read as JSON: {f'its Content-Type is {kind}' if kind else 'it has no Content-Type'}.",
            hint=f"Send it with {_JSON}: curl does with --json, or with -H 'Content-Type: application/json'.",
            param="Content-Type",
        )
    if first["type"] == "missing" and first["loc"] == ("body",):
        return RequestInvalid("The request has no body.", hint=f"Send JSON, with {_JSON}.")
    return None


def not_json(error: json.JSONDecodeError) -> RequestInvalid:
    """For a body that the parser fails at."""
    return RequestInvalid(
        f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
        hint="Mend it there. Names and texts stand in double quotes, and after the last member comes no comma.",
    )
