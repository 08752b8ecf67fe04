"""The workers' calls over HTTP: the token, the status codes, and the state in the database."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from tests.services.gateway.rigs.world import World, manifest_of

from craft.contracts.events import StageStatus
from craft.contracts.problems import PROBLEM_MEDIA_TYPE, StageError
from craft.contracts.stages.claims import Claim, ClaimedStage, Complete, Fail, Release, Renew
from craft.contracts.stages.kinds import Service
from craft.errors import LeaseLost, TooFewKnown, Unavailable
from craft.infra.http.app import create_app
from craft.infra.worker.coordinator_client import CoordinatorClient
from craft_gateway.worker_api.routes import worker_router

TOKEN = SecretStr("the workers' token")


@pytest.fixture
def http(world: World) -> Iterator[TestClient]:
    app = create_app(title="test", service="coordinator", routers=[worker_router(world.calls, token=TOKEN)])
    with TestClient(app, headers={"Authorization": f"Bearer {TOKEN.get_secret_value()}"}) as client:
        yield client


@pytest.fixture
def coordinator(http: TestClient) -> Iterator[CoordinatorClient]:
    """The workers' own client, over the application."""

    def forward(request: httpx.Request) -> httpx.Response:
        answer = http.request(
            request.method, request.url.raw_path.decode(), content=request.content, headers=dict(request.headers)
        )
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    with CoordinatorClient("http://test", TOKEN, transport=httpx.MockTransport(forward)) as client:
        yield client


def claim_first(world: World, coordinator: CoordinatorClient) -> ClaimedStage:
    stage = world.stage(world.create(), "ingest")
    claimed = coordinator.claim(stage.id, Claim(owner="w", service=Service.DATASETS))
    assert claimed is not None
    return claimed


def test_a_worker_claims_renews_and_completes(world: World, coordinator: CoordinatorClient) -> None:
    claimed = claim_first(world, coordinator)
    assert coordinator.renew(claimed.stage_id, Renew(fence=claimed.fence)).stop is False
    manifest = manifest_of(claimed)
    world.store.publish(manifest.ref)
    coordinator.complete(claimed.stage_id, Complete(fence=claimed.fence, manifest=manifest))
    coordinator.complete(claimed.stage_id, Complete(fence=claimed.fence, manifest=manifest))
    assert world.stage(claimed.job_id, "ingest").status is StageStatus.SUCCEEDED


def test_a_claim_with_nothing_to_do_is_none(world: World, coordinator: CoordinatorClient) -> None:
    claimed = claim_first(world, coordinator)
    again = Claim(owner="w2", service=Service.DATASETS)
    assert coordinator.claim(claimed.stage_id, again) is None
    assert coordinator.claim("stg_forged", again) is None


def test_an_old_fence_is_lease_lost(world: World, coordinator: CoordinatorClient) -> None:
    claimed = claim_first(world, coordinator)
    with pytest.raises(LeaseLost):
        coordinator.renew(claimed.stage_id, Renew(fence=claimed.fence + 1))
    with pytest.raises(LeaseLost):
        coordinator.release(claimed.stage_id, Release(fence=0))


def test_a_failure_travels_whole(world: World, coordinator: CoordinatorClient) -> None:
    claimed = claim_first(world, coordinator)
    error = StageError.of(TooFewKnown("It knows nothing.", hint="Lower tau."))
    coordinator.fail(claimed.stage_id, Fail(fence=claimed.fence, error=error, log_lines=["bye"]))
    shown = world.job(claimed.job_id).error
    assert shown is not None
    assert (shown["code"], shown["hint"]) == ("too_few_known", "Lower tau.")


@pytest.mark.parametrize("header", [b"", b"Bearer wrong", b"Basic dXNlcjpwYXNz", b"Bearer ", "Bearer ünïcode".encode()])
def test_without_the_token_nothing_is_answered_or_changed(world: World, http: TestClient, header: bytes) -> None:
    stage = world.stage(world.create(), "ingest")
    answer = http.post(
        f"/internal/stages/{stage.id}/claim",
        json={"owner": "w", "service": "datasets"},
        headers=[(b"authorization", header)],
    )
    assert answer.status_code == 401
    assert answer.headers["content-type"] == PROBLEM_MEDIA_TYPE
    assert answer.headers["www-authenticate"] == "Bearer"
    assert world.stage(stage.job_id, "ingest").status is StageStatus.READY


def test_a_report_of_another_form_is_refused_and_changes_nothing(world: World, http: TestClient) -> None:
    stage = world.stage(world.create(), "ingest")
    answer = http.post(f"/internal/stages/{stage.id}/claim", json={"owner": "w", "service": "cooking"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "request_invalid"


def test_forged_hints_change_nothing(world: World, http: TestClient) -> None:
    job_id = world.create()
    before = {name: stage.model_dump() for name, stage in world.stages(job_id).items()}
    forged = ["stg_x", "../../etc", "stg_' OR 1=1 --", "%00", "x" * 99]
    codes = {
        http.post(
            f"/internal/stages/{forged[n % len(forged)]}{n}/claim", json={"owner": "w", "service": "datasets"}
        ).status_code
        for n in range(200)
    }
    assert codes <= {404, 422}
    assert {name: stage.model_dump() for name, stage in world.stages(job_id).items()} == before


def test_the_client_sees_a_coordinator_that_is_away_as_unavailable() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with (
        CoordinatorClient("http://test", TOKEN, transport=httpx.MockTransport(refuse)) as away,
        pytest.raises(Unavailable),
    ):
        away.renew("stg_1", Renew(fence=1))
