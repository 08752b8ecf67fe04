"""Turns the problem document of another of our services back into an error."""

from functools import cache

import httpx
from pydantic import ValidationError

from craft.contracts.problems import Problem
from craft.errors import Conflict, CraftError, ErrorDetail, Internal, NotFound, RequestInvalid, Unavailable


def error_from_problem(answer: httpx.Response, *, peer: str, set_by: str = "CRAFT_WORKER_TOKEN") -> CraftError:
    """The error in a response. `peer` names the service, to start a sentence; `set_by` is the setting of its token."""
    if answer.status_code in {401, 403}:
        return Internal(f"{peer} refuses this process's token.", hint=f"Set the same {set_by} in both.")
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        return Unavailable(f"{peer}'s address answered {answer.status_code} and no problem document.")
    others: dict[int, type[CraftError]] = {404: NotFound, 409: Conflict}
    kind = _by_code().get(problem.code) or others.get(
        problem.status, Unavailable if problem.status >= 500 else RequestInvalid
    )
    return kind(
        problem.detail,
        hint=problem.hint,
        param=problem.param,
        details=[ErrorDetail(e.message, field=e.field, line=e.line, excerpt=e.excerpt) for e in problem.errors],
    )


@cache
def _by_code() -> dict[str, type[CraftError]]:
    # The tree's root classes have this code too.
    by_code: dict[str, type[CraftError]] = {Internal.code: Internal}
    waiting: list[type[CraftError]] = [CraftError]
    while waiting:
        kind = waiting.pop(0)
        by_code.setdefault(kind.code, kind)
        waiting.extend(kind.__subclasses__())
    return by_code
