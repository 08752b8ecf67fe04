"""Parameters that several routes share; unknown query parameters are refused."""

import difflib
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

from fastapi import Header, Query, Request
from fastapi.dependencies.models import Dependant

from craft.errors import RequestInvalid
from craft.infra.http.problems import clipped

_LONGEST_NAME = 100


class _Names(NamedTuple):
    """What a route takes; of the parameters whose names callers choose, how they begin."""

    fixed: tuple[str, ...]
    beginnings: tuple[str, ...]


class RefuseUnknownParameters:
    """The dependency of routes. A dependency of a route's own may have `query_prefix`: it reads what begins so."""

    def __init__(self) -> None:
        self._of: dict[Callable[..., Any], _Names] = {}

    async def __call__(self, request: Request) -> None:
        """Raises RequestInvalid, which names the parameters that there are."""
        if not request.scope["query_string"]:
            return
        route = request.scope["route"]
        names = self._of.get(route.endpoint)
        if names is None:
            names = self._of[route.endpoint] = _names(route.dependant)
        for name in request.query_params:
            if name not in names.fixed and not name.startswith(names.beginnings):
                raise _unknown(name, names)


def _names(dependant: Dependant) -> _Names:
    each = list(_with_all_below(dependant))
    fixed = dict.fromkeys(field.alias for one in each for field in one.query_params)
    prefixes = (getattr(one.call, "query_prefix", None) for one in each)
    return _Names(tuple(fixed), tuple(prefix for prefix in prefixes if prefix))


def _with_all_below(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for each in dependant.dependencies:
        yield from _with_all_below(each)


def _unknown(name: str, names: _Names) -> RequestInvalid:
    shown = clipped(name, _LONGEST_NAME)
    close = difflib.get_close_matches(shown, names.fixed, n=1)
    rest = [each for each in names.fixed if each not in close]
    told = ", ".join([*(f"`{each}`" for each in (*close, *rest)), *(f"`{each}NAME`" for each in names.beginnings)])
    return RequestInvalid(
        f"There is no query parameter `{shown}` here.",
        hint=f"{f'Did you mean `{close[0]}`? ' if close else ''}This call takes {told or 'none'}.",
        param=shown,
    )


MOST_ON_A_PAGE = 500
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Repeat a request safely: the same key and body give the same job, another body a 422.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=MOST_ON_A_PAGE, description="Items on a page.")]
After = Annotated[int, Query(ge=0, le=2**53, description="The `last_id` of the page before.")]
