"""The guide of webhooks: each of its snippets is run, by a shell, a receiver and an installation that are real."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import Rig, open_rig

from craft.contracts.public.webhooks import DeliveryStatus
from craft.infra.http.outbound import OutboundPolicy
from craft_gateway.webhooks.deliveries import Deliveries
from craft_gateway.webhooks.http_post import HttpPoster
from craft_gateway.webhooks.secrets import secret_box
from craft_gateway.webhooks.sender import WebhookSender

GUIDE = (Path(__file__).parents[4] / "shared/docs/webhooks.md").read_text(encoding="utf-8")
TARGET = "https://hooks.example.com/craft"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as made:
        yield made


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def shell(of: str, **environment: str) -> dict[str, Any]:
    """What the one snippet with that in it prints."""
    (snippet,) = [each for each in snippets("sh") if of in each]
    command = snippet.replace(TARGET, environment.get("TARGET", TARGET))
    settings = {"PATH": os.environ["PATH"], "CRAFT_API_KEY": "", **environment}
    # Any header will do where no key is asked for, but an empty one is refused.
    command = command.replace('-H "Authorization: Bearer $CRAFT_API_KEY"', "")
    done = subprocess.run(["bash", "-euc", command], env=settings, capture_output=True, text=True, check=True)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def deliver(rig: Rig) -> None:
    """What is due, as the coordinator does."""

    async def go() -> None:
        deliveries = Deliveries(rig.database, at_once_per_host=4, keep_days=7.0)
        post = HttpPoster(OutboundPolicy(["127.0.0.1"]))
        sender = WebhookSender(deliveries, post, secret_box(rig.settings), count=lambda _: None)
        while await sender.step():
            await sender.wait_for_attempts()

    asyncio.run(go())


def receiver(secret: str, monkeypatch: pytest.MonkeyPatch) -> tuple[ASGIApp, set[str]]:
    """The guide's own, and the ids that it has seen."""
    monkeypatch.setenv("CRAFT_WEBHOOK_SECRET", secret)
    (code,) = snippets("python")
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile(code, "webhooks.md", "exec"), names)  # noqa: S102 - running the guide is the test
    return names["app"], names["seen"]


def test_the_guide_works_from_the_first_call_to_the_rotated_secret(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apps: list[ASGIApp] = []

    async def whichever(scope: Any, receive: Any, send: Any) -> None:
        await apps[-1](scope, receive, send)

    with served(rig.app) as url, served(whichever) as target:
        made = shell('--json \'{"url"', CRAFT_URL=url, TARGET=f"{target}/craft")
        app, seen = receiver(made["secret"], monkeypatch)
        apps.append(app)
        environment = {"CRAFT_URL": url, "HOOK": str(made["id"])}
        sent = shell("/test", **environment)
        job = rig.submit()
        rig.finish(job)
        deliver(rig)
        listed = shell("deliveries?limit", **environment)["data"]
        assert {each["type"] for each in listed} == {"webhook.test", "job.succeeded"}
        assert {each["status"] for each in listed} == {DeliveryStatus.DELIVERED}
        assert seen == {each["id"] for each in listed}
        assert f"job.succeeded {job}" in capsys.readouterr().out
        again = shell("/redeliver", DELIVERY=str(sent["id"]), **environment)
        assert (again["id"], again["status"]) == (sent["id"], "pending")
        deliver(rig)
        assert capsys.readouterr().out == ""
        rotated = shell("rotate-secret", **environment)["secret"]
        for secret in (made["secret"], rotated):
            apps.append(receiver(secret, monkeypatch)[0])
            shell("/test", **environment)
            deliver(rig)
            assert "webhook.test" in capsys.readouterr().out
        apps.append(receiver("whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldA==", monkeypatch)[0])
        shell("/test", **environment)
        deliver(rig)
        newest = shell("deliveries?limit", **environment)["data"][0]
        assert (newest["status"], newest["response_status"]) == ("pending", 400)
        assert shell('"active"', **environment)["active"] is True


def test_every_snippet_is_run_or_read() -> None:
    assert len(snippets("sh")) == 6
    (example,) = snippets("json")
    assert set(json.loads(example)) == {"type", "timestamp", "data"}
