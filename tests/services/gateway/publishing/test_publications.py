"""Each requested publication is carried out once, by any publisher that is alive, whatever the target server does."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select
from tests.infra.storage.damage import flip_a_byte
from tests.services.gateway.rigs.fake_hub import TOKEN, FakeHub, running_hub
from tests.services.gateway.rigs.public_rig import UNKNOWN_JOB, Rig, open_rig

from craft.contracts.events import EventType
from craft.contracts.public.accounts import TeamSettings
from craft.contracts.public.publishing import PublicationStatus, PublishTarget
from craft.errors import CraftError, PublishingRefused, Unavailable
from craft.infra.settings.publishing import MlflowSettings, ModelHubSettings, PublishingSettings
from craft_gateway.publishing.hub import HubPublisher
from craft_gateway.publishing.loop import PublicationLoop
from craft_gateway.publishing.mlflow import MlflowPublisher
from craft_gateway.publishing.package import AdapterPackage, Published, Publisher
from craft_gateway.retention.uses import KeptBy, uses
from craft_gateway.store.tables import Event, Publication

# The hub's client calls its own HTTP library in a way that this library deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<:DeprecationWarning")

HUB = {"target": {"kind": "hub", "repo": "acme/support-qa"}}
MLFLOW = {"target": {"kind": "mlflow", "model_name": "support-qa"}}
FAST = {"first_pause_seconds": 0.001, "max_attempts": 3}


class FakePublisher:
    """Raises the given errors, one a call, and then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.packages: list[AdapterPackage] = []

    def publish(self, package: AdapterPackage, target: PublishTarget) -> Published:
        self.packages.append(package)
        if self.errors:
            raise self.errors.pop(0)
        return Published("https://hub.example/acme/support-qa", "1a2b")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running_hub() as hub:
        yield hub


def settings(url: str = "http://127.0.0.1:9", **changes: Any) -> PublishingSettings:
    connected = ModelHubSettings(token=TOKEN, endpoint=url)
    return PublishingSettings(hub=connected, mlflow=MlflowSettings(tracking_uri=url), **FAST, **changes)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path, publishing=settings()) as opened:
        yield opened


def finished(rig: Rig, **changes: Any) -> str:
    job = rig.submit(**changes)
    rig.finish(job)
    return job


def publish(rig: Rig, job: str, body: dict[str, Any] = HUB, status: int = 202) -> dict[str, Any]:
    answer = rig.post(f"/craft/jobs/{job}/publish", json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def shown(rig: Rig, job: str) -> dict[str, Any]:
    (only,) = rig.get(f"/craft/jobs/{job}/publications").json()["data"]
    return dict(only)


def publishing(rig: Rig, publisher: Publisher, **changes: Any) -> PublicationLoop:
    return PublicationLoop(rig.database, rig.store, {"hub": publisher, "mlflow": publisher}, settings(**changes))


def work(loop: PublicationLoop) -> int:
    """Run the loop until nothing is due, pauses included; return the number of attempts."""
    steps = 0
    for _ in range(200):
        steps += loop.step()
        threading.Event().wait(0.002)
    return steps


def events(rig: Rig, job: str) -> list[EventType]:
    with rig.database.read() as session:
        query = select(Event).where(Event.subject == job).order_by("seq")
        return [event.type for event in session.exec(query) if event.type.of_adapter]


@pytest.mark.parametrize("stage", ["package:cor-rait", "evaluate:cor-rait"])
def test_a_damaged_adapter_is_not_published_and_the_publication_says_what_to_do(rig: Rig, stage: str) -> None:
    job = finished(rig)
    publish(rig, job)
    flip_a_byte(rig.store.open(rig.reader.output(job, stage)), "rows.jsonl")
    publisher = FakePublisher()
    assert work(publishing(rig, publisher)) == 1
    assert publisher.packages == []
    view = shown(rig, job)
    assert (view["status"], view["error"]["code"]) == ("failed", "artifact_damaged")
    assert f'{{"from_stage": "{stage}"}}' in view["error"]["hint"]


def test_an_adapter_is_published_with_its_card_and_the_job_stays_as_it_was(rig: Rig) -> None:
    job = finished(rig, name="support-qa")
    requested = publish(rig, job)
    assert (requested["status"], requested["attempts"], requested["url"]) == ("queued", 0, None)
    publisher = FakePublisher()
    assert work(publishing(rig, publisher)) == 1
    view = shown(rig, job)
    assert (view["status"], view["version"], view["attempts"]) == ("succeeded", "1a2b", 1)
    assert view["url"] == "https://hub.example/acme/support-qa"
    (package,) = publisher.packages
    assert set(package.files) == {"adapter_config.json", "adapter_model.safetensors"}
    dataset = rig.get(f"/craft/jobs/{job}").json()["resolved"]["dataset"]["id"]
    assert f"`{dataset}`, 200 questions" in package.card
    assert view["digest"] in package.card
    assert package.parameters["training.lora_r"] == "64"
    assert rig.get(f"/craft/jobs/{job}").json()["status"] == "succeeded"
    assert events(rig, job) == [EventType.ADAPTER_PUBLISHING, EventType.ADAPTER_PUBLISHED]


def test_asking_twice_is_as_once_before_and_after(rig: Rig) -> None:
    job = finished(rig)
    first = publish(rig, job)
    assert publish(rig, job, status=200)["id"] == first["id"]
    publisher = FakePublisher()
    work(publishing(rig, publisher))
    again = publish(rig, job, status=200)
    assert (again["id"], again["status"]) == (first["id"], "succeeded")
    assert work(publishing(rig, publisher)) == 0
    assert len(publisher.packages) == 1


def test_another_target_is_another_publication(rig: Rig) -> None:
    job = finished(rig)
    ids = {publish(rig, job)["id"], publish(rig, job, MLFLOW)["id"]}
    assert len(ids) == 2
    assert len(rig.get(f"/craft/jobs/{job}/publications").json()["data"]) == 2


def test_trouble_on_the_other_side_is_tried_again_after_a_pause(rig: Rig) -> None:
    job = finished(rig)
    publish(rig, job)
    loop = publishing(rig, FakePublisher(Unavailable("It is away."), Unavailable("It is away.")))
    assert loop.step()
    view = shown(rig, job)
    assert (view["status"], view["attempts"], view["error"]["code"]) == ("queued", 1, "unavailable")
    assert view["next_attempt_at"] is not None
    assert work(loop) == 2
    view = shown(rig, job)
    assert (view["status"], view["attempts"], view["error"]) == ("succeeded", 3, None)


def test_after_the_last_attempt_it_has_failed_and_can_be_asked_for_again(rig: Rig) -> None:
    job = finished(rig)
    first = publish(rig, job)
    publisher = FakePublisher(*[Unavailable("It is away.")] * 3)
    assert work(publishing(rig, publisher)) == 3
    view = shown(rig, job)
    assert (view["status"], view["error"]["message"]) == ("failed", "It is away.")
    assert view["finished_at"] is not None
    again = publish(rig, job)
    assert (again["id"], again["status"], again["attempts"], again["error"]) == (first["id"], "queued", 0, None)
    work(publishing(rig, publisher))
    assert shown(rig, job)["status"] == "succeeded"
    assert events(rig, job) == [
        EventType.ADAPTER_PUBLISHING,
        EventType.ADAPTER_PUBLISH_FAILED,
        EventType.ADAPTER_PUBLISHING,
        EventType.ADAPTER_PUBLISHED,
    ]


@pytest.mark.parametrize("error", [PublishingRefused("No.", hint="Mend it."), ZeroDivisionError("a library's bug")])
def test_what_no_later_attempt_mends_fails_at_once(rig: Rig, error: Exception) -> None:
    job = finished(rig)
    publish(rig, job)
    assert work(publishing(rig, FakePublisher(error))) == 1
    view = shown(rig, job)
    assert view["status"] == "failed"
    assert view["error"]["code"] == ("publishing_refused" if isinstance(error, CraftError) else "internal")


def test_pauses_double_up_to_the_longest(rig: Rig) -> None:
    loop = PublicationLoop(
        rig.database,
        rig.store,
        {},
        PublishingSettings(first_pause_seconds=5, longest_pause_seconds=60),
        jitter=lambda: 1.0,
    )
    assert [loop._pause(attempt).total_seconds() for attempt in (1, 2, 3, 4, 5, 9999)] == [5, 10, 20, 40, 60, 60]


class BlockedPublisher:
    """Blocks in the middle of a publication until `go` is set."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def publish(self, package: AdapterPackage, target: PublishTarget) -> Published:
        self.entered.set()
        assert self.go.wait(20)
        return Published("https://late.example", "late")


def test_two_publishers_never_do_the_same_at_once(rig: Rig) -> None:
    job = finished(rig)
    publish(rig, job)
    blocked, other = BlockedPublisher(), FakePublisher()
    thread = threading.Thread(target=publishing(rig, blocked, lease_seconds=0.4).step)
    thread.start()
    assert blocked.entered.wait(20)
    threading.Event().wait(1.0)  # longer than the lease, which is renewed meanwhile
    assert not publishing(rig, other).step()
    blocked.go.set()
    thread.join()
    assert other.packages == []
    assert shown(rig, job)["version"] == "late"


def test_a_publisher_that_died_is_replaced_and_one_that_comes_back_changes_nothing(rig: Rig) -> None:
    job = finished(rig)
    publish(rig, job)
    dead = publishing(rig, FakePublisher(), lease_seconds=0.05)
    claimed = dead._claim()
    assert claimed is not None
    assert not publishing(rig, FakePublisher()).step()
    threading.Event().wait(0.1)
    assert publishing(rig, FakePublisher()).step()
    dead._settle_failure(claimed.row, PublishingRefused("I was away."))
    view = shown(rig, job)
    assert (view["status"], view["attempts"], view["error"]) == ("succeeded", 2, None)


def test_publishers_that_die_each_time_do_not_go_on_for_ever(rig: Rig) -> None:
    job = finished(rig)
    publish(rig, job)
    for _ in range(3):
        assert publishing(rig, FakePublisher(), lease_seconds=0.01)._claim() is not None
        threading.Event().wait(0.03)
    publisher = FakePublisher()
    work(publishing(rig, publisher))
    assert shown(rig, job)["error"]["code"] == "worker_lost"
    assert publisher.packages == []


def test_what_waits_to_be_published_does_not_expire(rig: Rig) -> None:
    job = finished(rig)
    publish(rig, job)
    with rig.database.read() as session:
        row = session.exec(select(Publication)).one()
        keys = (row.artifact_key, row.evaluation_key)
        assert all(KeptBy.PUBLICATION in uses(session, keys)[key].kept_by for key in keys)
    work(publishing(rig, FakePublisher()))
    with rig.database.read() as session:
        assert all(not uses(session, keys)[key].kept_by for key in keys)


def test_an_adapter_that_is_not_finished_cannot_be_published(rig: Rig) -> None:
    assert publish(rig, rig.submit(), status=409)["code"] == "conflict"
    assert publish(rig, UNKNOWN_JOB, status=404)["code"] == "not_found"


def test_one_of_several_adapters_must_be_named(rig: Rig) -> None:
    job = finished(rig, strategies=["cor-rait", "van-tuning"])
    assert publish(rig, job, status=422)["param"] == "strategy"
    assert publish(rig, job, HUB | {"strategy": "van-tuning"})["strategy"] == "van-tuning"


@pytest.mark.parametrize(
    "repo", ["acme", "acme/../etc", "acme/a--b", "/a", "acme/ä", "acme/x.git", "a/b/c", "acme/" + "x" * 97]
)
def test_a_name_that_is_no_repository_is_refused(rig: Rig, repo: str) -> None:
    answer = publish(rig, UNKNOWN_JOB, {"target": {"kind": "hub", "repo": repo}}, status=422)
    assert answer["code"] == "request_invalid"


def test_an_installation_without_a_hub_says_which_setting_is_missing(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        job = finished(rig)
        assert "CRAFT_PUBLISHING__HUB__TOKEN" in publish(rig, job, status=409)["hint"]
        assert "CRAFT_PUBLISHING__MLFLOW__TRACKING_URI" in publish(rig, job, MLFLOW, status=409)["hint"]


def test_owners_that_are_not_allowed_are_refused(tmp_path: Path) -> None:
    allowed = PublishingSettings(hub=ModelHubSettings(token=TOKEN, owners=["Our-Org"]))
    with open_rig(tmp_path, publishing=allowed) as rig:
        job = finished(rig)
        assert publish(rig, job, status=403)["param"] == "target.repo"
        publish(rig, job, {"target": {"kind": "hub", "repo": "our-org/support-qa"}})


def test_a_name_belongs_to_the_team_that_publishes_there(tmp_path: Path) -> None:
    key = "an-operator-key-of-the-tests-0123456789"
    with open_rig(tmp_path, publishing=settings(), operator_key=key) as rig:
        jobs = {}
        for team in ("first", "second"):
            rig.teams.put(team, TeamSettings())
            headers = {"Authorization": f"Bearer {key}", "Craft-Team": team}
            body = {"base_model": {"id": "tiny/model"}, "dataset": {"rows": _rows()}, "strategies": ["cor-rait"]}
            jobs[team] = (rig.post("/craft/jobs", json=body, headers=headers).json()["id"], headers)
            rig.finish(jobs[team][0])
        answers = {
            team: rig.post(f"/craft/jobs/{job}/publish", json=HUB, headers=headers)
            for team, (job, headers) in jobs.items()
        }
        assert [answer.status_code for answer in answers.values()] == [202, 409]
        assert jobs["first"][0] not in answers["second"].text


def _rows() -> list[dict[str, Any]]:
    return [{"question": f"What is {n} plus {n}?", "answers": [str(2 * n)]} for n in range(20)]


def on_hub(rig: Rig, hub: FakeHub) -> PublicationLoop:
    connected = ModelHubSettings(token=TOKEN, endpoint=hub.url)
    chosen = PublishingSettings(hub=connected, **FAST)
    return PublicationLoop(rig.database, rig.store, {"hub": HubPublisher(connected)}, chosen)


def test_the_hub_holds_the_adapter_and_its_card_in_one_commit(rig: Rig, hub: FakeHub) -> None:
    job = finished(rig, name="support-qa")
    message = "Nach den Tickets vom Juli 🚀"
    publish(rig, job, {"target": {**HUB["target"], "commit_message": message}})
    assert work(on_hub(rig, hub)) == 1
    repository = hub.repositories["acme/support-qa"]
    view = shown(rig, job)
    assert (view["status"], view["version"]) == ("succeeded", repository.head)
    assert view["url"] == f"{hub.url}/acme/support-qa"
    assert repository.private
    assert repository.commits == [message]
    assert set(repository.files) == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert repository.files["adapter_model.safetensors"] in hub.large.values()
    assert b"## Provenance" in repository.files["README.md"]


@pytest.mark.parametrize(
    ("part", "statuses"), [("/commit/", [503]), ("/upload/", [500] * 6), ("/api/repos/create", [429])]
)
def test_a_hub_that_fails_half_way_has_one_commit_in_the_end(
    rig: Rig, hub: FakeHub, part: str, statuses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "huggingface_hub.utils._http.time.sleep", lambda _: None
    )  # the client waits between its own attempts
    job = finished(rig)
    publish(rig, job)
    hub.broken[part] = statuses
    assert work(on_hub(rig, hub)) == 2
    assert shown(rig, job)["status"] == "succeeded"
    assert len(hub.repositories["acme/support-qa"].commits) == 1


def test_what_is_on_the_hub_already_makes_no_second_commit(rig: Rig, hub: FakeHub) -> None:
    job = finished(rig)
    publish(rig, job)
    loop = on_hub(rig, hub)
    claimed = loop._claim()
    assert claimed is not None
    first = loop._publish(claimed)  # and the process dies before it stores the result
    second = loop._publish(claimed)
    assert first == second
    assert len(hub.repositories["acme/support-qa"].commits) == 1


def test_a_token_that_the_hub_does_not_know_is_an_operators_to_mend(rig: Rig, hub: FakeHub) -> None:
    job = finished(rig)
    publish(rig, job)
    wrong = ModelHubSettings(token="hf_wrong", endpoint=hub.url)
    publisher = HubPublisher(wrong)
    assert work(publishing(rig, publisher)) == 1
    view = shown(rig, job)
    assert (view["status"], view["error"]["code"]) == ("failed", "publishing_refused")
    assert "CRAFT_PUBLISHING__HUB__TOKEN" in view["error"]["hint"]
    assert "hf_wrong" not in str(view)


def test_a_public_repository_is_not_taken_for_a_private_one(rig: Rig, hub: FakeHub) -> None:
    job = finished(rig)
    publish(rig, job, {"target": {**HUB["target"], "private": False}})
    work(on_hub(rig, hub))
    publish(rig, job)
    work(on_hub(rig, hub))
    by_status = {row["status"]: row for row in rig.get(f"/craft/jobs/{job}/publications").json()["data"]}
    assert "public already" in by_status["failed"]["error"]["message"]
    assert len(hub.repositories["acme/support-qa"].commits) == 1


@pytest.mark.parametrize("kind", ["hub", "mlflow"])
def test_a_server_that_is_away_is_waited_for(rig: Rig, kind: str) -> None:
    away = settings("http://127.0.0.1:9")
    assert away.hub is not None
    assert away.mlflow is not None
    publisher: Publisher = HubPublisher(away.hub) if kind == "hub" else MlflowPublisher(away.mlflow, timeout_seconds=5)
    job = finished(rig)
    publish(rig, job, HUB if kind == "hub" else MLFLOW)
    assert publishing(rig, publisher).step()
    view = shown(rig, job)
    assert (view["status"], view["error"]["code"]) == (PublicationStatus.QUEUED, "unavailable")
