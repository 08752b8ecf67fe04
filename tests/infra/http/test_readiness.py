"""A service whose threads are all held is not ready, so that no new requests come to it."""

import asyncio
import threading

import httpx
from fastapi import APIRouter

from craft.infra.http.app import create_app

THREADS = 40
"""Those of the framework, in which routes run that are plain functions."""


def test_a_service_whose_threads_are_all_held_is_not_ready_until_one_is_free() -> None:
    go, routes = threading.Event(), APIRouter()

    @routes.get("/held")
    def held() -> str:
        go.wait(30)
        return "done"

    async def main() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(create_app(title="A", service="a", routers=[routes]))
        async with httpx.AsyncClient(transport=transport, base_url="http://a", timeout=30) as client:
            requests = [asyncio.create_task(client.get("/held")) for _ in range(THREADS)]
            await asyncio.sleep(0.1)
            before = await client.get("/readyz")
            go.set()
            await asyncio.gather(*requests)
            return before, await client.get("/readyz")

    before, after = asyncio.run(main())
    assert (before.status_code, [error["field"] for error in before.json()["errors"]]) == (503, ["threads"])
    assert after.status_code == 200
