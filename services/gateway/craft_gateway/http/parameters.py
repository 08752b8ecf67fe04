"""Parameters that several routes share, and the check that refuses unknown query parameters."""

import difflib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

from fastapi import Header, Query, Request
from fastapi.dependencies.models import Dependant
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from craft.errors import RequestInvalid
from craft.infra.http.problems import clipped

_MAX_NAME_LENGTH = 100
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


class _Names(NamedTuple):
    """The query parameters of a route: fixed names, and prefixes of names that callers choose."""

    fixed: tuple[str, ...]
    prefixes: tuple[str, ...]


class RefuseUnknownParameters:
    """A dependency that refuses query parameters which the route does not have.

    Another dependency of the route may have an attribute `query_prefix`: names with this prefix are then allowed.
    """

    def __init__(self) -> None:
        self._names: dict[Callable[..., Any], _Names] = {}

    async def __call__(self, request: Request) -> None:
        """Check the request's query. Raises RequestInvalid, which names the route's parameters."""
        if not request.scope["query_string"]:
            return
        route = request.scope["route"]
        names = self._names.get(route.endpoint)
        if names is None:
            names = self._names[route.endpoint] = _names(route.dependant)
        for name in request.query_params:
            if name not in names.fixed and not name.startswith(names.prefixes):
                raise _unknown(name, names)


def _names(dependant: Dependant) -> _Names:
    dependants = list(_tree(dependant))
    fixed = dict.fromkeys(field.alias for part in dependants for field in part.query_params)
    prefixes = (getattr(part.call, "query_prefix", None) for part in dependants)
    return _Names(tuple(fixed), tuple(prefix for prefix in prefixes if prefix))


def _tree(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for dependency in dependant.dependencies:
        yield from _tree(dependency)


def _unknown(name: str, names: _Names) -> RequestInvalid:
    shown = clipped(name, _MAX_NAME_LENGTH)
    close = difflib.get_close_matches(shown, names.fixed, n=1)
    rest = [fixed for fixed in names.fixed if fixed not in close]
    known = ", ".join([*(f"`{fixed}`" for fixed in (*close, *rest)), *(f"`{prefix}NAME`" for prefix in names.prefixes)])
    return RequestInvalid(
        f"There is no query parameter `{shown}` here.",
        hint=f"{f'Did you mean `{close[0]}`? ' if close else ''}This call takes {known or 'none'}.",
        param=shown,
    )


MAX_ON_A_PAGE = 500
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Repeat a request safely: the same key and body give the same job, another body a 422.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=MAX_ON_A_PAGE, description="Items on a page.")]


def _written(given: str) -> str:
    """Only RFC 3339, as the document says: pydantic would take bare numbers too, as seconds or milliseconds."""
    if not _RFC_3339.fullmatch(given):
        raise ValueError("write a time like 2025-01-31T00:00:00Z")
    return given


def _in_utc(given: datetime) -> datetime:
    """The same time in UTC. Raises ValueError where an offset leads out of the calendar."""
    try:
        return given.astimezone(UTC)
    except OverflowError:
        raise ValueError("write a time that is in the years 1 to 9999 in UTC too") from None


Time = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_in_utc)]


def plain_text(value: str, *, param: str) -> str:
    """The value of a parameter that the caller named. Raises RequestInvalid for one that no database holds."""
    if "\0" in value:
        raise RequestInvalid(f"`{param}` holds a NUL character.", hint="Remove it (%00).", param=param)
    return value


After = Annotated[int, Query(ge=0, le=2**53, description="The `last_id` of the page before.")]
