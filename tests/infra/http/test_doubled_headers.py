"""A header that says who calls, for whom, or how long a body is comes once: otherwise two programs may differ."""

import asyncio
import json
import socket

import httpx
import pytest
from fastapi import APIRouter
from tests.infra.http.served import served

from craft.infra.http.app import create_app

ROUTES = APIRouter()


@ROUTES.post("/asked")
async def asked() -> str:
    return "yes"


APP = create_app(title="A", service="a", routers=[ROUTES])


def ask(*headers: tuple[str, str]) -> httpx.Response:
    async def exchange() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://a") as client:
            return await client.post("/asked", headers=[*headers])

    return asyncio.run(exchange())


@pytest.mark.parametrize("name", ["Authorization", "Craft-Team", "Idempotency-Key", "Content-Length", "Host"])
@pytest.mark.parametrize("values", [("0", "0"), ("0", "1")])
def test_a_header_that_decides_comes_once(name: str, values: tuple[str, str]) -> None:
    once = [("Host", "a"), ("Content-Length", "0")]
    doubled = [(name, values[0]), (name.lower(), values[1])]
    answer = ask(*[each for each in once if each[0] != name], *doubled)
    assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (400, "header_repeated", name.lower())
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("name", ["Accept", "Cookie", "X-Forwarded-For", "Via"])
def test_another_header_may_come_twice(name: str) -> None:
    assert ask((name, "a"), (name, "b")).status_code == 200


def test_over_a_socket_the_answer_is_a_problem_too() -> None:
    request = b"POST /asked HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nCraft-Team: a\r\nCraft-Team: b\r\n\r\n"
    with served(APP) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request)
        received = b""
        while more := connection.recv(65536):
            received += more
    assert received.startswith(b"HTTP/1.1 400")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["param"] == "craft-team"
