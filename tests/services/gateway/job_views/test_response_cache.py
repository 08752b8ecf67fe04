"""What pollers get: made once for each state of a job, always true, and little of it kept."""

import asyncio
import hashlib
import threading
import time
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.services.cli.views import job_view
from tests.services.gateway.rigs.public_rig import open_rig

from craft.contracts.public.jobs import JobView
from craft.contracts.spec.jobs import JobStatus
from craft.errors import NotFound, Unavailable
from craft_gateway.job_views.queue_state import QueuedJob, queue_state
from craft_gateway.job_views.response_cache import JobResponse, JobResponseCache, JobSnapshot
from craft_gateway.scheduling.queue import DeviceOwner, QueuePosition, QueueSnapshot

PATIENCE_SECONDS = 20.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class FakeJobs:
    """Jobs whose version is also their percentage, and a record of the views that were made."""

    def __init__(self, *job_ids: str, status: JobStatus = JobStatus.QUEUED) -> None:
        self.versions = dict.fromkeys(job_ids, 0)
        self.status = status
        self.made: list[str] = []
        self.looks: list[int] = []
        self.down = False
        self.positions: dict[str, QueuePosition] = {}
        self.device_owner: DeviceOwner | None = None
        self.change_while_made = False
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def change(self, job_id: str) -> None:
        with self._lock:
            self.versions[job_id] += 1

    def snapshot(self, job_ids: Collection[str]) -> JobSnapshot:
        assert self.gate.wait(PATIENCE_SECONDS)
        self.looks.append(len(job_ids))
        if self.down:
            raise Unavailable("The database does not answer.")
        known = {job_id: self.versions[job_id] for job_id in job_ids if job_id in self.versions}
        return JobSnapshot(known, QueueSnapshot(self.positions, self.device_owner, NOW))

    def queued_job(self, job_id: str) -> tuple[JobView, QueuedJob]:
        self.made.append(job_id)
        view = job_view(self.status, percent=self.versions[job_id]).model_copy(update={"id": job_id})
        if self.change_while_made:
            self.change(job_id)
        waits = QueuedJob(
            "default", self.status, "it waits", runs=False, needs_device=None, created_at=NOW, began_at=None
        )
        return view, waits


def polled(bodies: JobResponseCache, job_id: str) -> JobResponse:
    return asyncio.run(bodies.polled(job_id))


def shown(body: JobResponse) -> JobView:
    return JobView.model_validate_json(body.content)


def percent(body: JobResponse) -> float:
    return shown(body).progress.percent


def test_a_response_is_the_jobs_view_with_its_queue_state() -> None:
    jobs = FakeJobs("a")
    jobs.positions["a"] = QueuePosition(3, "the team is busy", None)
    body = polled(JobResponseCache(jobs), "a")
    view, waits = jobs.queued_job("a")
    state = queue_state(waits, position=jobs.positions["a"], device_owner=None, now=NOW)
    assert (state.status_reason, state.queue.position) == ("the team is busy", 3)
    assert shown(body) == view.model_copy(update={"status_reason": state.status_reason, "queue": state.queue})
    assert body.tag == hashlib.sha256(body.content).hexdigest()
    assert not body.ended


def test_an_unchanged_job_is_the_same_bytes_without_another_view() -> None:
    jobs = FakeJobs("a")
    bodies = JobResponseCache(jobs)
    assert polled(bodies, "a") == polled(bodies, "a")
    assert jobs.made == ["a"]


def test_a_changed_job_has_another_tag() -> None:
    jobs = FakeJobs("a")
    bodies = JobResponseCache(jobs)
    before = polled(bodies, "a")
    jobs.versions["a"] = 7
    after = polled(bodies, "a")
    assert (percent(before), percent(after)) == (0.0, 7.0)
    assert before.tag != after.tag


def test_a_change_while_a_view_is_made_is_seen_by_the_next_caller() -> None:
    jobs = FakeJobs("a")
    bodies = JobResponseCache(jobs)
    jobs.change_while_made = True
    assert percent(polled(bodies, "a")) == 0.0
    jobs.change_while_made = False
    assert percent(polled(bodies, "a")) == 1.0


def test_a_job_that_moves_up_has_another_tag_and_needs_no_other_view() -> None:
    jobs = FakeJobs("a")
    bodies = JobResponseCache(jobs)
    jobs.positions["a"] = QueuePosition(3, None, None)
    before = polled(bodies, "a")
    jobs.positions["a"] = QueuePosition(2, None, None)
    after = polled(bodies, "a")
    assert (shown(before).queue.position, shown(after).queue.position) == (3, 2)
    assert before.tag != after.tag
    assert jobs.made == ["a"]


@pytest.mark.parametrize(("status", "made"), [(JobStatus.SUCCEEDED, 2), (JobStatus.RUNNING, 1)])
def test_only_an_ended_job_is_looked_at_again_after_a_while(status: JobStatus, made: int) -> None:
    now = [0.0]
    jobs = FakeJobs("a", status=status)
    bodies = JobResponseCache(jobs, clock=lambda: now[0])
    assert polled(bodies, "a").ended is status.terminal
    now[0] = 29.0
    polled(bodies, "a")
    assert jobs.made == ["a"]
    now[0] = 31.0
    polled(bodies, "a")
    assert len(jobs.made) == made


def test_an_unknown_job_is_not_found() -> None:
    bodies = JobResponseCache(FakeJobs("a"))
    with pytest.raises(NotFound):
        polled(bodies, "b")


def test_the_body_that_was_asked_for_longest_ago_is_dropped() -> None:
    jobs = FakeJobs("a", "b", "c")
    bodies = JobResponseCache(jobs, most=2)
    for job_id in ("a", "b", "a", "c", "a", "b"):
        polled(bodies, job_id)
    assert jobs.made == ["a", "b", "c", "b"]


def test_a_poll_sees_no_older_state_than_when_it_began() -> None:
    jobs = FakeJobs("a", "b")
    bodies = JobResponseCache(jobs, most=1)

    async def is_true(number: int) -> bool:
        job_id = "ab"[number % 2]
        await asyncio.sleep(number % 7 / 1000)
        if number % 5 == 0:
            jobs.change(job_id)
        least = jobs.versions[job_id]
        body = await bodies.polled(job_id)
        return shown(body).id == job_id and percent(body) >= least

    async def at_once() -> list[bool]:
        return await asyncio.gather(*(is_true(number) for number in range(400)))

    assert all(asyncio.run(at_once()))


def test_polls_that_come_at_once_are_all_answered() -> None:
    jobs = FakeJobs("a", "b")
    bodies = JobResponseCache(jobs)

    async def at_once() -> list[JobResponse]:
        return await asyncio.gather(*(bodies.polled("ab"[number % 2]) for number in range(20)))

    assert {(shown(body).id, number % 2) for number, body in enumerate(asyncio.run(at_once()))} == {("a", 0), ("b", 1)}


def test_polls_that_come_while_the_database_is_asked_share_the_next_question() -> None:
    jobs = FakeJobs("a", "b")
    bodies = JobResponseCache(jobs)

    async def at_once() -> None:
        jobs.gate.clear()
        first = asyncio.ensure_future(bodies.polled("a"))
        await asyncio.sleep(0.05)
        others = [asyncio.ensure_future(bodies.polled("ab"[number % 2])) for number in range(100)]
        await asyncio.sleep(0.05)
        jobs.gate.set()
        await asyncio.gather(first, *others)

    asyncio.run(at_once())
    assert jobs.looks == [1, 2]
    assert sorted(jobs.made) == ["a", "b"]


def test_polls_that_come_one_after_the_other_share_looks_too() -> None:
    jobs = FakeJobs("a")
    bodies = JobResponseCache(jobs)

    async def several() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(200):
                group.create_task(bodies.polled("a"))
                await asyncio.sleep(0.0005)

    began = time.monotonic()
    asyncio.run(several())
    assert 2 <= len(jobs.looks) <= 2 + (time.monotonic() - began) / 0.005


def test_a_caller_that_goes_away_leaves_the_others_alone() -> None:
    jobs = FakeJobs("a")
    bodies = JobResponseCache(jobs)

    async def at_once() -> JobResponse:
        jobs.gate.clear()
        gone, stays = (asyncio.ensure_future(bodies.polled("a")) for _ in range(2))
        await asyncio.sleep(0.05)
        gone.cancel()
        jobs.gate.set()
        return await stays

    assert shown(asyncio.run(at_once())).id == "a"
    assert shown(polled(bodies, "a")).id == "a"


def test_a_database_that_does_not_answer_is_said_to_all_and_asked_again_by_the_next() -> None:
    jobs = FakeJobs("a")
    bodies = JobResponseCache(jobs)

    async def at_once() -> list[JobResponse | BaseException]:
        return await asyncio.gather(*(bodies.polled("a") for _ in range(3)), return_exceptions=True)

    jobs.down = True
    assert [type(answer) for answer in asyncio.run(at_once())] == [Unavailable] * 3
    jobs.down = False
    assert shown(polled(bodies, "a")).id == "a"


def test_of_too_many_polls_the_last_are_refused_at_once_and_the_others_answered() -> None:
    jobs = FakeJobs("a")
    bodies = JobResponseCache(jobs, max_polls=5)

    async def at_once() -> list[JobResponse | BaseException]:
        jobs.gate.clear()
        polls = [asyncio.ensure_future(bodies.polled("a")) for _ in range(8)]
        refused, _ = await asyncio.wait(polls, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        assert refused == set(polls[5:])
        jobs.gate.set()
        return [*await asyncio.gather(*polls, return_exceptions=True), await bodies.polled("a")]

    answers = asyncio.run(at_once())
    assert [type(answer) for answer in answers] == [JobResponse] * 5 + [Unavailable] * 3 + [JobResponse]


def test_a_poll_tells_of_progress_and_of_the_turn_of_others(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        first, second = rig.submit(), rig.submit(seed=7)
        path = f"/craft/jobs/{second}"
        queued = rig.get(path)
        assert queued.json() == rig.reader.job(second).model_dump(mode="json")
        assert queued.json()["queue"]["position"] == 1
        taken = rig.claim(first)
        moved_up = rig.get(path, headers={"If-None-Match": queued.headers["ETag"]})
        assert (moved_up.status_code, moved_up.json()["queue"]["position"]) == (200, 0)
        assert rig.get(path, headers={"If-None-Match": moved_up.headers["ETag"]}).status_code == 304
        version = rig.reader.snapshot([first]).versions
        rig.progress(taken, 3, 10)
        assert rig.reader.snapshot([first]).versions != version
        assert rig.get(f"/craft/jobs/{first}").json()["progress"]["done"] == 3
