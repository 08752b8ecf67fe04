"""The shared token of the system's own processes."""

import asyncio

import httpx
import pytest
from fastapi import APIRouter, Depends
from pydantic import SecretStr

from craft.contracts.problems import Problem
from craft.infra.http.app import create_app
from craft.infra.http.bearer import bearer_check


def ask(token: str, header: str | bytes | None) -> httpx.Response:
    routes = APIRouter(dependencies=[Depends(bearer_check(SecretStr(token)))])

    @routes.get("/secret")
    async def secret() -> str:
        return "secret"

    app = create_app(title="A", service="a", routers=[routes])

    raw = header.encode() if isinstance(header, str) else header
    headers = {} if raw is None else {b"Authorization": raw}

    async def exchange() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client:
            return await client.get("/secret", headers=headers)

    return asyncio.run(exchange())


@pytest.mark.parametrize("header", ["Bearer sesame", "bearer sesame"])
def test_the_token_opens(header: str) -> None:
    answer = ask("sesame", header)
    assert (answer.status_code, answer.json()) == (200, "secret")


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "sesame", "Bearer", "Bearer ", "Bearer sesam", "Bearer sesame2", "Bearer SESAME"),
        *("Basic sesame", "Bearer sesame,Bearer x", b"Bearer \xff\xfe", b"\xff"),
    ],
)
def test_anything_else_does_not(header: str | bytes | None) -> None:
    answer = ask("sesame", header)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert Problem.model_validate_json(answer.content).code == "unauthorized"
    assert "sesame" not in answer.text


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer x"])
def test_an_empty_token_authorises_no_request(header: str | None) -> None:
    assert ask("", header).status_code == 401
