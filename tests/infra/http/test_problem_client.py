"""Responses of other services become errors again."""

import httpx
import pytest

from craft import errors
from craft.contracts.problems import Problem
from craft.errors import Conflict, CraftError, ErrorDetail, Internal, NotFound, RequestInvalid, Unavailable
from craft.infra.http.problem_client import error_from_problem

OURS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type)
    and issubclass(kind, CraftError)
    and kind not in (CraftError, errors.UserError, errors.SystemFault)
    # These have their parent's code, and come back as that.
    and kind not in (errors.MissingStates, errors.HostUnknown, errors.HostTooSmall, errors.GpuTooSmall)
    # To another of our services these mean that a token is set wrong: below.
    and kind not in (errors.Unauthenticated, errors.Forbidden)
]


def answer(status: int, error: CraftError, **changes: object) -> httpx.Response:
    problem = Problem.of(error).model_copy(update={"status": status, **changes})
    return httpx.Response(status, json=problem.model_dump(mode="json"))


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_tree_comes_back_as_itself(kind: type[CraftError]) -> None:
    detail = ErrorDetail("empty", field="question", line=3, excerpt="''")
    found = error_from_problem(
        answer(kind.status, kind("It broke.", hint="Mend it.", param="x", details=[detail])), peer="The model server"
    )
    assert type(found) is kind
    assert (found.message, found.hint, found.param, found.details) == ("It broke.", "Mend it.", "x", (detail,))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (409, Conflict),
        (418, RequestInvalid),
        (429, RequestInvalid),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_a_code_of_tomorrow_is_known_by_its_status(status: int, kind: type[CraftError]) -> None:
    found = error_from_problem(answer(status, Internal("new"), code="quantum_flux"), peer="The model server")
    assert type(found) is kind


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_a_wrong_setting(status: int) -> None:
    found = error_from_problem(httpx.Response(status), peer="The model server", set_by="CRAFT_OTHER_TOKEN")
    assert isinstance(found, Internal)
    assert found.message.startswith("The model server")
    assert found.hint is not None
    assert "CRAFT_OTHER_TOKEN" in found.hint


@pytest.mark.parametrize("body", [b"", b"<html>gateway</html>", b"{}", b"[]", b"\xff"])
@pytest.mark.parametrize("status", [302, 404, 422, 502])
def test_what_is_no_problem_document_is_not_the_peers_word(status: int, body: bytes) -> None:
    found = error_from_problem(httpx.Response(status, content=body), peer="The model server")
    assert type(found) is Unavailable
    assert str(status) in found.message
