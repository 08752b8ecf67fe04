"""`craft webhooks …` against a real gateway. The gateway's own tests cover the sent messages."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import open_rig
from typer.testing import CliRunner

from craft_cli.main import app

RUNNER = CliRunner()
TARGET = "https://hooks.example.com/craft"
UNKNOWN = "hook_01jgywz3x4v5q6r7s8t9vawbxc"


@pytest.fixture(scope="module", autouse=True)
def _gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with (
        pytest.MonkeyPatch.context() as patched,
        open_rig(tmp_path_factory.mktemp("rig")) as rig,
        served(rig.app) as url,
    ):
        patched.setenv("CRAFT_URL", url)
        yield


def craft(*words: str, code: int = 0) -> str:
    result = RUNNER.invoke(app, ["webhooks", *words])
    assert result.exit_code == code, result.output
    return result.output


def as_json(*words: str) -> Any:
    return json.loads(craft(*words, "--json"))


@pytest.fixture
def hook() -> str:
    return craft("create", TARGET).splitlines()[0]


def test_the_secret_is_printed_once() -> None:
    webhook_id, secret = craft(
        "create", TARGET, "--type", "job.failed", "--type", "adapter.*", "--name", "pager"
    ).splitlines()
    assert secret.startswith("whsec_")
    (row,) = [line for line in craft("ls").splitlines() if webhook_id in line]
    assert row.split() == ["pager", "on", webhook_id, "job.failed,", "adapter.*", TARGET]
    assert secret not in craft("get", webhook_id)


def test_a_new_secret_is_another_and_the_old_one_still_signs(hook: str) -> None:
    _, first = craft("rotate", hook).splitlines()
    _, second = craft("rotate", hook).splitlines()
    assert first != second
    assert "the secret before signs too until" in craft("get", hook)


def test_only_the_given_options_change(hook: str) -> None:
    before = as_json("get", hook)
    after = as_json("set", hook, "--inactive")
    assert (after["active"], after["types"]) == (False, before["types"])
    assert "off: " in craft("get", hook)
    assert as_json("set", hook, "--active", "--type", "job.failed")["types"] == ["job.failed"]
    assert as_json("set", hook, "--name", "pager")["active"] is True
    assert "Say what to change" in craft("set", hook, code=2)
    craft("set", hook, "--type", "weather", code=2)


def test_a_message_is_sent_shown_and_sent_again(hook: str) -> None:
    sent = craft("test", hook).strip()
    (row,) = [line for line in craft("deliveries", hook).splitlines() if sent in line]
    assert row.split()[:4] == [sent, "webhook.test", "pending", "0"]
    assert as_json("deliveries", hook, "--status", "failed")["data"] == []
    assert json.loads(as_json("deliveries", hook, sent)["body"])["type"] == "webhook.test"
    assert 'sent: {"' in craft("deliveries", hook, sent)
    assert craft("redeliver", hook, sent) == "pending\n"


def test_what_is_removed_is_not_found(hook: str) -> None:
    assert craft("rm", hook) == "deleted\n"
    craft("get", hook, code=4)
    craft("rm", UNKNOWN, code=4)
