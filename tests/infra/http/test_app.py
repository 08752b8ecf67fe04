"""The answers that all services share: problems, request ids, limits, health, metrics, OpenAPI."""

import asyncio
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.problems import PROBLEM_MEDIA_TYPE, Problem
from craft.errors import Conflict, DatasetInvalid, ErrorDetail, NotFound, Unavailable
from craft.infra.http.app import Mounted, create_app
from craft.infra.http.openapi import documented

LIMIT = 1000
OWN_ID = re.compile(r"req_[0-9a-hjkmnp-tv-z]{26}")


class Thing(Contract):
    """A body."""

    name: str = Field(min_length=2)
    size: float = 1.0
    parts: list["Thing"] = Field(default_factory=list)


def router() -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["things"])

    @router.post("/things", responses=documented(NotFound, Conflict))
    async def create(thing: Thing) -> Thing:
        if thing.name == "missing":
            raise NotFound("No such thing.", hint="Create it.", param="name")
        if thing.name == "rows":
            raise DatasetInvalid("Bad rows.", details=[ErrorDetail("empty", field="question", line=7, excerpt="x")])
        if thing.name == "away":
            raise Unavailable("The database does not answer.")
        if thing.name == "defect":
            raise ValueError("the password is hunter2")
        if thing.name == "full":
            raise OSError(errno.ENOSPC, "No space left on device", "/a/path")
        if thing.name == "teapot":
            raise HTTPException(418, "I'm a teapot", headers={"X-Tea": "yes"})
        return thing

    @router.get("/things/{number}")
    async def read(number: int) -> dict[str, float]:
        return {"nan": float("nan"), "inf": float("inf"), "number": number}

    @router.get("/json")
    async def own_json() -> dict[str, object]:
        return {"nan": float("nan"), "deep": [{"x": float("-inf")}]}

    @router.post("/stream")
    async def swallow(request: Request) -> int:
        return sum([len(block) async for block in request.stream()])

    @router.get("/events")
    async def events() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            raise ValueError("in the middle")

        return StreamingResponse(parts())

    return router


def app(**more: Any) -> FastAPI:
    return create_app(title="Things", service="things", routers=[router()], max_body_bytes=LIMIT, **more)


def ask(method: str, path: str, *, on: FastAPI | None = None, **request: Any) -> httpx.Response:
    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(on or app())
        async with httpx.AsyncClient(transport=transport, base_url="http://things") as client:
            return await client.request(method, path, **request)

    return asyncio.run(exchange())


def problem(answer: httpx.Response) -> Problem:
    assert answer.headers["content-type"] == PROBLEM_MEDIA_TYPE
    found = Problem.model_validate_json(answer.content)
    assert found.status == answer.status_code
    assert found.request_id == answer.headers["x-request-id"]
    return found


def post(name: str) -> httpx.Response:
    return ask("POST", "/v1/things", json={"name": name})


def test_a_good_request_is_answered() -> None:
    answer = post("fine")
    assert (answer.status_code, answer.json()["name"]) == (200, "fine")


def test_an_error_of_our_tree_is_a_problem_document() -> None:
    found = problem(post("missing"))
    assert (found.status, found.code, found.hint, found.param) == (404, "not_found", "Create it.", "name")
    assert found.type == "urn:craft:problem:not_found"


def test_places_in_the_input_travel() -> None:
    detail = problem(post("rows")).errors[0]
    assert (detail.line, detail.field, detail.excerpt) == (7, "question", "x")


def test_an_unavailable_part_says_when_to_try_again() -> None:
    answer = post("away")
    assert problem(answer).retryable
    assert int(answer.headers["retry-after"]) > 0


def test_a_defect_shows_no_stack_trace(caplog: pytest.LogCaptureFixture) -> None:
    answer = post("defect")
    found = problem(answer)
    assert (found.status, found.code) == (500, "internal")
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    assert any(getattr(record, "request_id", None) == found.request_id for record in caplog.records)


def test_a_full_disk_says_so_and_that_trying_again_may_help() -> None:
    answer = post("full")
    found = problem(answer)
    assert (found.status, found.code, found.retryable) == (507, "disk_full", True)
    assert "/a/path" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/nowhere", 404, "not_found"), ("DELETE", "/v1/things/1", 405, "method_not_allowed")],
)
def test_the_frameworks_own_errors_are_problems_too(method: str, path: str, status: int, code: str) -> None:
    answer = ask(method, path)
    assert (problem(answer).status, problem(answer).code) == (status, code)
    if status == 405:
        assert answer.headers["allow"] == "GET, HEAD"


def test_an_http_exception_keeps_its_headers() -> None:
    answer = post("teapot")
    assert problem(answer).detail == "I'm a teapot"
    assert answer.headers["x-tea"] == "yes"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "x"}, "name"),
        ({"name": "xx", "colour": 1}, "colour"),
        ({"name": "xx", "parts": [{"name": "yy"}, {"name": 3}]}, "parts.1.name"),
    ],
)
def test_a_wrong_field_is_named(body: dict[str, object], field: str) -> None:
    found = problem(ask("POST", "/v1/things", json=body))
    assert (found.status, found.code, found.param) == (422, "request_invalid", field)
    assert [error.field for error in found.errors] == [field]
    assert field in found.detail


def test_a_wrong_path_parameter_is_named() -> None:
    assert problem(ask("GET", "/v1/things/many")).param == "number"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe\x00",
        b"[" * 900,
        b'{"name": "\\ud800", "\\udfff": 1}',
        b'{"name": ' + b"9" * 900 + b"}",
        b'{"name": NaN, "size": Infinity}',
        b'{"name": "xx", "size": "' + b"y" * 500 + b'"}',
        b'{"name": {"a": "' + b"b" * 800 + b'"}}',
        b'{"' + b"k" * 900 + b'": 1}',
    ],
)
def test_no_body_is_echoed_at_length_or_breaks_the_answer(body: bytes) -> None:
    answer = ask("POST", "/v1/things", content=body, headers={"content-type": "application/json"})
    found = problem(answer)
    assert found.status in {400, 422}
    for error in found.errors:
        assert len(error.excerpt or "") <= 120
        assert len(error.field or "") <= 200
        assert len(error.message) <= 300


def test_at_most_a_hundred_places_are_named() -> None:
    big = create_app(title="Things", service="things", routers=[router()])
    body = {"name": "xx", "parts": [{"name": 1}] * 5000}
    assert len(problem(ask("POST", "/v1/things", on=big, json=body)).errors) == 100


def test_numbers_that_json_does_not_know_become_null() -> None:
    assert ask("GET", "/v1/things/3").json() == {"nan": None, "inf": None, "number": 3.0}
    assert ask("GET", "/v1/json").json() == {"nan": None, "deep": [{"x": None}]}


def test_a_body_over_the_limit_is_refused_by_its_length() -> None:
    found = problem(ask("POST", "/v1/things", content=b"x" * (LIMIT + 1)))
    assert (found.status, found.code) == (413, "payload_too_large")


@pytest.mark.parametrize("path", ["/v1/things", "/v1/stream"])
@pytest.mark.parametrize("claimed", [None, "5", "nonsense"])
def test_a_body_over_the_limit_is_refused_whatever_its_length_claims(path: str, claimed: str | None) -> None:
    read = 0

    async def blocks() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 100
            yield b"x" * 100

    headers = {"content-type": "application/json", **({"content-length": claimed} if claimed else {})}
    found = problem(ask("POST", path, content=blocks(), headers=headers))
    assert (found.status, found.code) == (413, "payload_too_large")
    assert read <= LIMIT + 200


def test_a_body_of_exactly_the_limit_passes() -> None:
    assert ask("POST", "/v1/stream", content=b"x" * LIMIT).json() == LIMIT


def test_every_answer_has_a_request_id() -> None:
    first, second = (ask("GET", "/healthz").headers["x-request-id"] for _ in range(2))
    assert OWN_ID.fullmatch(first)
    assert first != second


def test_a_harmless_request_id_is_kept() -> None:
    assert ask("GET", "/healthz", headers={"x-request-id": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\tb", "<script>", "a;b", b"\xff\xfe"])
def test_a_harmful_request_id_is_replaced(given: str | bytes) -> None:
    answer = ask("GET", "/healthz", headers={b"x-request-id": given.encode() if isinstance(given, str) else given})
    assert OWN_ID.fullmatch(answer.headers["x-request-id"])


def test_a_stream_that_breaks_is_cut_and_not_answered_twice() -> None:
    with pytest.raises(ValueError, match="in the middle"):
        ask("GET", "/v1/events")


def test_health_needs_nothing() -> None:
    assert ask("GET", "/healthz").json() == {"status": "ok"}


def checks(**found: bool) -> Callable[[], Any]:
    async def ready() -> dict[str, bool]:
        return found

    return ready


def test_ready_where_every_part_answers() -> None:
    answer = ask("GET", "/readyz", on=app(ready=checks(database=True)))
    assert answer.json() == {"status": "ready", "checks": {"database": True}}


def test_not_ready_names_the_part() -> None:
    found = problem(ask("GET", "/readyz", on=app(ready=checks(database=True, broker=False))))
    assert (found.status, found.code) == (503, "unavailable")
    assert [error.field for error in found.errors] == ["broker"]


def test_a_check_that_fails_is_not_ready() -> None:
    async def ready() -> dict[str, bool]:
        raise ConnectionRefusedError("no")

    assert ask("GET", "/readyz", on=app(ready=ready)).status_code == 503


def test_a_check_says_in_words_why_the_service_is_not_ready() -> None:
    async def ready() -> dict[str, bool]:
        raise Unavailable("The database file was removed.", hint="Put it back.")

    found = problem(ask("GET", "/readyz", on=app(ready=ready)))
    assert (found.status, found.detail, found.hint) == (
        503,
        "Not ready: The database file was removed.",
        "Put it back.",
    )


def test_requests_are_counted_by_route_not_by_address() -> None:
    counted = app()
    for path in ("/v1/things/1", "/v1/things/2", "/v1/things/x", "/one", "/two"):
        ask("GET", path, on=counted)
    ask("BREW", "/v1/things/1", on=counted)
    text = ask("GET", "/metrics", on=counted).text
    line = 'craft_http_requests_total{{method="{}",route="{}",service="things",status="{}"}} {}'
    assert line.format("GET", "/v1/things/{number}", 200, "2.0") in text
    assert line.format("GET", "/v1/things/{number}", 422, "1.0") in text
    assert line.format("GET", "unmatched", 404, "2.0") in text
    assert 'method="other"' in text
    assert "BREW" not in text


def test_a_route_is_counted_with_its_routers_prefix() -> None:
    routers = [Mounted(router(), "/own"), Mounted(router(), "/own/second", include_in_schema=False)]
    counted = create_app(title="Things", service="things", routers=routers)
    for prefix in ("/own", "/own/second"):
        ask("GET", f"{prefix}/v1/things/1", on=counted)
        assert f'route="{prefix}/v1/things/{{number}}"' in ask("GET", "/metrics", on=counted).text


def test_two_applications_count_apart() -> None:
    one, two = app(), app()
    ask("GET", "/v1/things/1", on=one)
    assert "/v1/things" not in ask("GET", "/metrics", on=two).text


def test_the_lifespan_is_the_services_own() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        events.append("begin")
        yield
        events.append("end")

    async def live(app: FastAPI) -> None:
        async with app.router.lifespan_context(app):
            events.append("live")

    asyncio.run(live(app(lifespan=lifespan)))
    assert events == ["begin", "live", "end"]


def test_every_operation_documents_its_problems() -> None:
    document = ask("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == 8
    for operation in operations:
        for status, response in operation["responses"].items():
            if not status.startswith("2"):
                schema = response["content"][PROBLEM_MEDIA_TYPE]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}
    assert set(document["paths"]["/v1/things"]["post"]["responses"]) == {
        *("200", "404", "409", "413", "422", "500", "503", "507"),
    }
    assert set(document["paths"]["/v1/things/{number}"]["get"]["responses"]) == {
        *("200", "413", "422", "500", "503"),
    }
    assert set(document["paths"]["/v1/json"]["get"]["responses"]) == {"200", "413", "500", "503"}
    assert "HTTPValidationError" not in document["components"]["schemas"]
    create = document["paths"]["/v1/things"]["post"]["responses"]
    assert "`not_found`" in create["404"]["description"]
    assert "409" in create


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = ask("GET", "/openapi.json").json()
    schemas = document["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(schemas)
    assert set(schemas["Problem"]["properties"]) == set(Problem.model_fields)


SERVER = """
import sys
from craft.infra.http.app import create_app
from craft.infra.http.server.serve import serve
from craft.infra.settings.listen import Listen
from craft.infra.settings.settings import Settings
serve(create_app(title="t", service="t", routers=[]), Listen(port=int(sys.argv[1])), Settings())
"""


def test_a_server_listens_and_ends_on_sigterm() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], env=dict(os.environ), stderr=subprocess.PIPE)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10), base_url=f"http://127.0.0.1:{port}") as client:
            answer = client.get("/healthz")
        assert (answer.status_code, "server" in answer.headers) == (200, False)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) in {0, -signal.SIGTERM}
    finally:
        server.kill()
        server.communicate()
