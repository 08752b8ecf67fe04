"""Webhooks over HTTP: what is shown, what is refused and why, and who may do what."""

import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tests.services.gateway.rigs.public_rig import Rig, open_rig

from craft.contracts.public.webhooks import MAX_WEBHOOKS
from craft.errors import Internal
from craft_gateway.webhooks.secrets import SecretBox, new_secret

OPERATOR_KEY = "an-operator-key-of-the-tests-0123456789"
OPERATOR = {"Authorization": f"Bearer {OPERATOR_KEY}"}
URL = "https://hooks.example.com/craft?token=of-another-system"
UNKNOWN_HOOK = "hook_01jgywz3x4v5q6r7s8t9vawbxc"
UNKNOWN_DELIVERY = "dlvr_01jgywz3x4v5q6r7s8t9vawbxc"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as made:
        yield made


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Rig]:
    """With keys."""
    with open_rig(tmp_path, operator_key=OPERATOR_KEY) as made:
        yield made


def create(rig: Rig, **request: Any) -> dict[str, Any]:
    answer = rig.post("/craft/webhooks", json={"url": URL, **request})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def key(rig: Rig, role: str) -> dict[str, str]:
    made = rig.post("/craft/api-keys", json={"name": role, "role": role}, headers=OPERATOR).json()
    return {"Authorization": f"Bearer {made['key']}"}


def test_the_secret_is_shown_once_and_kept_encrypted(rig: Rig, tmp_path: Path) -> None:
    answer = rig.post("/craft/webhooks", json={"url": URL})
    made = answer.json()
    secret = made["secret"]
    assert (answer.headers["Location"], answer.headers["Cache-Control"]) == (
        f"/craft/webhooks/{made['id']}",
        "no-store",
    )
    assert secret.startswith("whsec_")
    for path in ("", f"/{made['id']}", f"/{made['id']}/deliveries"):
        assert secret not in rig.get(f"/craft/webhooks{path}").text
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("craft.db*"))
    assert secret.encode() not in stored
    assert secret.removeprefix("whsec_").encode() not in stored
    assert stat.S_IMODE((tmp_path / "webhook.key").stat().st_mode) == 0o600
    assert list(tmp_path.glob(".webhook.key*")) == []


def test_a_webhook_is_listed_changed_and_deleted(rig: Rig) -> None:
    made = create(rig, name="Größe 可以", types=["job.*", "job.*", "stage.failed"])
    assert (made["name"], made["types"], made["active"]) == ("Größe 可以", ["job.*", "stage.failed"], True)
    path = f"/craft/webhooks/{made['id']}"
    listed = rig.get("/craft/webhooks").json()
    assert [each["id"] for each in listed["data"]] == [made["id"]]
    assert rig.get(path).json() == {name: value for name, value in made.items() if name != "secret"}
    off = rig.request("PATCH", path, json={"active": False}).json()
    assert (off["active"], off["inactive_reason"], off["types"]) == (False, "switched off by request", made["types"])
    refused = rig.post(f"{path}/test")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "PATCH" in refused.json()["hint"]
    on = rig.request("PATCH", path, json={"active": True, "types": ["*"], "name": None}).json()
    assert (on["active"], on["inactive_reason"], on["types"], on["name"]) == (True, None, ["*"], None)
    assert rig.request("DELETE", path).status_code == 204
    assert rig.get(path).status_code == rig.request("DELETE", path).status_code == 404
    assert rig.get("/craft/webhooks").json()["data"] == []
    audit = rig.get("/craft/audit", params={"subject": made["id"]})
    types = [entry["type"] for entry in audit.json()["data"]]
    assert types == ["webhook.deleted", "webhook.changed", "webhook.changed", "webhook.created"]
    assert "of-another-system" not in audit.text


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "https://user:secret@hooks.example.com/",
        "https:///path",
        "https://[::1",
        "https://[::1]/",
        "https://169.254.169.254/latest/",
        "https://10.0.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://hooks.example.com/\x00",
        f"https://{'a' * 300}.example.com/",
        f"https://hooks.example.com/{'a' * 2000}",
    ],
)
def test_an_address_that_cannot_be_meant_is_refused_at_once(rig: Rig, url: str) -> None:
    answer = rig.post("/craft/webhooks", json={"url": url})
    assert (answer.status_code, answer.json()["param"]) == (422, "url"), answer.text


@pytest.mark.parametrize(
    "types", [[], ["job"], ["job.done"], ["jobs.*"], ["*.*"], ["job.*.*"], ["**"], [""], ["jo*"], ["webhook.test"], "*"]
)
def test_types_that_no_event_has_are_refused(rig: Rig, types: object) -> None:
    answer = rig.post("/craft/webhooks", json={"url": URL, "types": types})
    assert answer.status_code == 422
    assert "types" in answer.json()["param"]


def test_a_type_that_is_refused_is_answered_with_those_that_are_known(rig: Rig) -> None:
    answer = rig.post("/craft/webhooks", json={"url": URL, "types": ["job.done"]})
    assert "job.*" in answer.json()["detail"]


def test_an_empty_change_is_refused(rig: Rig) -> None:
    answer = rig.request("PATCH", f"/craft/webhooks/{create(rig)['id']}", json={})
    assert (answer.status_code, answer.json()["hint"]) == (422, "Give active, types or name.")


def test_a_team_has_no_end_of_webhooks(rig: Rig) -> None:
    for number in range(MAX_WEBHOOKS):
        create(rig, name=str(number))
    refused = rig.post("/craft/webhooks", json={"url": URL})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    page = rig.get("/craft/webhooks?limit=15").json()
    rest = rig.get(f"/craft/webhooks?limit=15&after={page['last_id']}").json()
    assert (page["has_more"], rest["has_more"]) == (True, False)
    names = [each["name"] for each in page["data"] + rest["data"]]
    assert names == [str(number) for number in reversed(range(MAX_WEBHOOKS))]


def test_a_viewer_sees_none_an_editor_manages_them_and_only_admins_hear_of_keys(shared: Rig) -> None:
    shared.request("PUT", "/craft/teams/default", json={}, headers=OPERATOR)
    viewer, editor, admin = (key(shared, role) for role in ("viewer", "editor", "admin"))
    for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{UNKNOWN_HOOK}"), ("DELETE", f"/{UNKNOWN_HOOK}")):
        asked = shared.request(method, f"/craft/webhooks{path}", headers=viewer, json={"url": URL})
        assert (asked.status_code, asked.json()["code"]) == (403, "forbidden")
    made = shared.post("/craft/webhooks", json={"url": URL}, headers=editor).json()
    for types in (["key.*"], ["job.*", "team.changed"]):
        body = {"url": URL, "types": types}
        assert shared.post("/craft/webhooks", json=body, headers=editor).status_code == 403
        path = f"/craft/webhooks/{made['id']}"
        assert shared.request("PATCH", path, json={"types": types}, headers=editor).status_code == 403
        assert shared.post("/craft/webhooks", json=body, headers=admin).status_code == 201


@pytest.mark.parametrize("hook", [UNKNOWN_HOOK, "hook_1", "'"])
def test_what_does_not_exist_is_not_found(rig: Rig, hook: str) -> None:
    path = f"/craft/webhooks/{hook}"
    asked = [
        rig.get(path),
        rig.request("PATCH", path, json={"active": True}),
        rig.request("DELETE", path),
        rig.post(f"{path}/rotate-secret"),
        rig.post(f"{path}/test"),
        rig.get(f"{path}/deliveries"),
        rig.get(f"{path}/deliveries/{UNKNOWN_DELIVERY}"),
        rig.post(f"{path}/deliveries/{UNKNOWN_DELIVERY}/redeliver"),
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in asked} == {(404, "not_found")}


def test_the_log_of_deliveries_comes_in_pages_and_by_status(rig: Rig) -> None:
    hook, other = create(rig, types=["job.created", "job.progress"]), create(rig)
    path = f"/craft/webhooks/{hook['id']}"
    ids = [rig.post(f"{path}/test").json()["id"] for _ in range(5)]
    page = rig.get(f"{path}/deliveries?limit=3").json()
    rest = rig.get(f"{path}/deliveries?limit=3&after={page['last_id']}").json()
    assert [each["id"] for each in page["data"] + rest["data"]] == ids[::-1]
    assert (page["has_more"], rest["has_more"]) == (True, False)
    assert len(rig.get(f"{path}/deliveries?status=pending").json()["data"]) == 5
    assert rig.get(f"{path}/deliveries?status=delivered").json()["data"] == []
    assert rig.get(f"{path}/deliveries?status=lost").status_code == 422
    shown = rig.get(f"{path}/deliveries/{ids[0]}").json()
    assert (shown["type"], shown["attempts"], shown["status"]) == ("webhook.test", 0, "pending")
    assert '"type":"webhook.test"' in shown["body"]
    assert rig.get(f"/craft/webhooks/{other['id']}/deliveries/{ids[0]}").status_code == 404
    again = rig.post(f"{path}/deliveries/{ids[0]}/redeliver")
    assert (again.status_code, again.json()["id"]) == (202, ids[0])
    assert again.headers["Location"] == f"{path}/deliveries/{ids[0]}"


def test_a_jobs_message_is_queued_in_the_transaction_that_accepts_it(rig: Rig) -> None:
    hook = create(rig)
    job = rig.submit()
    found = rig.get(f"/craft/webhooks/{hook['id']}/deliveries").json()["data"]
    assert {"job.created", "job.queued"} <= {each["type"] for each in found}
    details = [rig.get(f"/craft/webhooks/{hook['id']}/deliveries/{each['id']}").json() for each in found]
    assert all(job in each["body"] for each in details)


def test_rotation_answers_a_new_secret_and_until_when_the_old_one_counts(rig: Rig) -> None:
    hook = create(rig)
    answer = rig.post(f"/craft/webhooks/{hook['id']}/rotate-secret")
    made = answer.json()
    assert made["secret"] != hook["secret"]
    assert made["old_secret_until"] is not None
    assert answer.headers["Cache-Control"] == "no-store"


def test_two_processes_that_make_the_key_at_once_agree_on_it(tmp_path: Path) -> None:
    boxes = [SecretBox(tmp_path / "state" / "webhook.key") for _ in range(2)]
    secret = new_secret()
    assert boxes[1].open(boxes[0].lock(secret)) == secret


def test_a_key_of_the_settings_can_be_exchanged(tmp_path: Path) -> None:
    file, secret = tmp_path / "webhook.key", new_secret()
    first, second = SecretStr("a" * 32), SecretStr("b" * 32)
    by_file, by_first = SecretBox(file).lock(secret), SecretBox(file, key=first).lock(secret)
    assert SecretBox(file, key=second, old_key=first).open(by_first) == secret
    with pytest.raises(Internal, match="cannot be read any more"):
        SecretBox(file, key=second).open(by_first)
    with pytest.raises(Internal):
        SecretBox(file, key=second).open(by_file)
    assert secret not in by_file + by_first


def test_a_state_folder_that_cannot_be_written_is_said(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "webhook.key").mkdir()
    answer = rig.post("/craft/webhooks", json={"url": URL})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "CRAFT_WEBHOOKS__KEY" in answer.json()["hint"]
    assert rig.get("/craft/webhooks").json()["data"] == []


def test_a_million_deliveries_are_paged_quickly(rig: Rig, tmp_path: Path) -> None:
    hook = create(rig)
    with sqlite3.connect(tmp_path / "craft.db") as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) "
            "INSERT INTO webhook_delivery (id, webhook_id, type, body, status, attempts, tries, due_at, give_up_at,"
            " created_at, ended_at) SELECT printf('dlvr_%026d', i), ?, 'job.queued', '{}', 'delivered', 1, 1,"
            " '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000', '2026-01-01 00:00:00.000000',"
            " '2026-01-01 00:00:00.000000' FROM n",
            (hook["id"],),
        )
    connection.close()
    start = time.process_time()
    page = rig.get(f"/craft/webhooks/{hook['id']}/deliveries?limit=500&after=dlvr_{500_000:026d}").json()
    seconds = time.process_time() - start
    print(f"CPU seconds of a page among a million: {seconds:.3f}")
    assert page["data"][0]["id"] == f"dlvr_{499_999:026d}"
    assert seconds < 1.0
