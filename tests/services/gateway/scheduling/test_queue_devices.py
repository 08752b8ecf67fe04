"""A device that workers share is owned by the stage that runs on it, and all users can see so."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.services.gateway.rigs.public_rig import Rig, open_rig
from tests.services.gateway.rigs.world import World

from craft.contracts.stages.claims import Claim, ClaimedStage, Release
from craft.errors import DiskFull


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as rig:
        yield rig


def claim(world: World, job_id: str, name: str, device: str | None) -> ClaimedStage:
    stage = world.stage(job_id, name)
    claimed = world.calls.claim(stage.id, Claim(owner=f"w {stage.id}", service=stage.queue, device=device))
    assert claimed is not None
    return claimed


def test_a_device_is_held_while_the_stage_runs_and_no_longer(world: World) -> None:
    job_id = world.create()
    ends = (
        world.release,
        lambda claimed: world.fail(claimed, DiskFull("full")),
        world.complete,
    )
    for end in ends:
        claimed = claim(world, job_id, "ingest", "gpu0")
        assert world.stage(job_id, "ingest").device == "gpu0"
        end(claimed)
        assert world.stage(job_id, "ingest").device is None
        world.clock.advance(60.0)


def test_a_lost_workers_device_is_free_again(world: World) -> None:
    job_id = world.create()
    claim(world, job_id, "ingest", "gpu0")
    world.clock.advance(91.0)
    assert world.maintenance.reap() == 1
    assert world.stage(job_id, "ingest").device is None


def test_another_claim_without_a_device_holds_none(world: World) -> None:
    job_id = world.create()
    world.calls.release(
        claim(world, job_id, "ingest", "gpu0").stage_id, Release(fence=world.stage(job_id, "ingest").fence)
    )
    claim(world, job_id, "ingest", None)
    assert world.stage(job_id, "ingest").device is None


def test_the_queue_tells_who_holds_which_device(rig: Rig) -> None:
    first = rig.submit()
    rig.complete(rig.claim(first))
    assert rig.get("/craft/queue").json()["devices"] == []
    owner = rig.claim(first, device="gpu0")
    (device,) = rig.get("/craft/queue").json()["devices"]
    assert {name: device[name] for name in ("object", "name", "job_id", "stage", "service", "owner")} == {
        "object": "craft.device",
        "name": "gpu0",
        "job_id": first,
        "stage": owner.name,
        "service": "inference",
        "owner": "worker",
    }
    assert device["since"] < device["lease_expires_at"]
    rig.complete(owner)
    assert rig.get("/craft/queue").json()["devices"] == []


def test_a_job_that_waits_for_a_device_says_who_has_it(rig: Rig) -> None:
    first, second = rig.submit(), rig.submit(seed=7)
    rig.complete(rig.claim(first))
    owner = rig.claim(first, device="gpu0")
    # Its first stage reads data and needs no device.
    assert rig.get(f"/craft/jobs/{second}").json()["status_reason"] == "waits for a worker"
    rig.complete(rig.claim(second))
    wanted = f"probe:initial waits for a free inference worker: gpu0 is busy with {owner.name} of {first}"
    assert rig.get(f"/craft/jobs/{second}").json()["status_reason"] == wanted
    assert wanted in [entry["reason"] for entry in rig.get("/craft/queue").json()["data"]]
    assert "busy" not in rig.get(f"/craft/jobs/{first}").json()["status_reason"]
    rig.complete(owner)
    for job_id in (first, second):
        reason = rig.get(f"/craft/jobs/{job_id}").json()["status_reason"]
        assert "waits for a free" in reason
        assert "busy" not in reason


def test_a_job_with_a_name_is_told_by_its_name(rig: Rig) -> None:
    first, second = rig.submit(name="ablation"), rig.submit(seed=7)
    for job_id in (first, second):
        rig.complete(rig.claim(job_id))
    owner = rig.claim(first, device="gpu0")
    reason = rig.get(f"/craft/jobs/{second}").json()["status_reason"]
    assert reason.endswith(f"gpu0 is busy with {owner.name} of 'ablation'")


def test_a_job_that_has_begun_and_waits_says_for_which_worker(rig: Rig) -> None:
    job_id = rig.submit()
    rig.complete(rig.claim(job_id))
    shown = rig.get(f"/craft/jobs/{job_id}").json()
    assert shown["status_reason"] == "probe:initial waits for a free inference worker"
    assert shown["status"] == "running"
