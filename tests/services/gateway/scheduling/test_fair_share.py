"""Teams share the workers by their weights; quotas hold; within a team priority goes before age."""

from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress

from tests.services.gateway.rigs.world import SETTINGS, World

from craft.contracts.public.accounts import TeamSettings
from craft.contracts.spec.jobs import JobStatus
from craft.contracts.stages.attempts import AttemptOutcome
from craft.contracts.stages.claims import ClaimedStage, Renew
from craft.contracts.stages.kinds import Service
from craft.errors import TooFewKnown
from craft_gateway.scheduling.allowances import team_allowances
from craft_gateway.scheduling.fair_share import note_start
from craft_gateway.scheduling.queue import QueuePosition, positions
from craft_gateway.scheduling.stage_durations import StageDurations
from craft_gateway.store.tables import Attempt, Stage


def ready(world: World, *jobs: str) -> list[Stage]:
    return [stage for job in jobs for stage in world.stages(job).values() if stage.status == "ready"]


def serve(world: World, jobs: list[str], *, seconds: float = 10.0) -> str:
    """Let one worker of the datasets queue do what is next; returns the job's team."""
    claimed = world.try_claim(next(stage for stage in ready(world, *jobs) if stage.queue is Service.DATASETS))
    assert claimed is not None
    world.clock.advance(seconds)
    world.complete(claimed)
    return world.job(claimed.job_id).team


def queue(world: World, *, most: int = 1000) -> dict[str, QueuePosition]:
    durations = StageDurations()
    with world.database.read() as session:
        teams, now = team_allowances(session), world.clock.now
        return positions(session, teams, now, has_space=world.has_space, durations=durations, max_stages=most)


def test_a_team_that_queues_many_does_not_starve_one_that_queues_one(world: World) -> None:
    many = [world.create(team="many", seed=seed) for seed in range(50)]
    for _ in range(5):
        serve(world, many)
    one = world.create(team="one", seed=1000)
    served = [serve(world, [*many, one]) for _ in range(2)]
    assert "one" in served


def test_teams_are_served_by_their_weights(world: World) -> None:
    world.between(heavy=TeamSettings(weight=3.0), light=TeamSettings(weight=1.0))
    jobs = [world.create(team=team, seed=seed) for seed in range(40) for team in ("heavy", "light")]
    jobs = [job for job in jobs if ready(world, job)]
    served = Counter(serve(world, jobs) for _ in range(40))
    assert served == {"heavy": 30, "light": 10}


def test_weights_hold_for_many_workers_at_once(world: World) -> None:
    world.between(heavy=TeamSettings(weight=3.0), light=TeamSettings(weight=1.0))
    jobs = [world.create(team=team, seed=seed) for seed in range(80) for team in ("heavy", "light")]
    named = world.stage(jobs[-1], "ingest")
    at_work = deque(filter(None, (world.try_claim(named) for _ in range(8))))
    served: Counter[str] = Counter()
    for _ in range(80):
        world.clock.advance(1)
        done = at_work.popleft()
        served[world.job(done.job_id).team] += 1
        world.complete(done)
        at_work.extend(filter(None, [world.try_claim(named)]))
    assert abs(served["heavy"] - 60) <= 4


def test_the_time_of_work_counts_not_how_often_a_team_was_served(world: World) -> None:
    jobs = {
        team: [world.create(team=team, seed=(0 if team == "a" else 100) + n) for n in range(30)] for team in ("a", "b")
    }
    seconds = dict.fromkeys(jobs, 0.0)
    for _ in range(30):
        claimed = world.try_claim(ready(world, *jobs["a"], *jobs["b"])[0])
        assert claimed is not None
        team = world.job(claimed.job_id).team
        duration = 30.0 if team == "a" else 10.0
        world.clock.advance(duration)
        seconds[team] += duration
        world.complete(claimed)
        for other in jobs.values():
            other[:] = [job for job in other if any(s.queue is Service.DATASETS for s in ready(world, job))]
    assert abs(seconds["a"] - seconds["b"]) <= 30.0


def test_rest_is_neither_saved_up_nor_punished(world: World) -> None:
    busy = [world.create(team="busy", seed=seed) for seed in range(40)]
    for _ in range(10):
        serve(world, busy, seconds=100.0)
    rested = [world.create(team="rested", seed=100 + seed) for seed in range(30)]
    served = [serve(world, [*busy, *rested]) for _ in range(30)]
    # The busy team's last hundred seconds are made up for; the nine hundred before are not.
    assert served[:10] == ["rested"] * 10
    assert Counter(served[10:]) == {"busy": 10, "rested": 10}


def test_a_running_stage_counts_before_it_ends(world: World) -> None:
    mine = [world.create(team="mine", seed=seed) for seed in range(3)]
    world.try_claim(ready(world, *mine)[0])
    world.clock.advance(50)
    other = world.create(team="other", seed=10)
    claimed = world.try_claim(ready(world, *mine)[0])
    assert claimed is not None
    assert claimed.job_id == other


def test_within_a_team_priority_goes_before_age_and_age_before_the_named_stage(world: World) -> None:
    old = world.create(seed=1)
    young = world.create(seed=2)
    urgent = world.create(seed=3, priority=90)
    order = []
    for _ in range(3):
        claimed = world.try_claim(ready(world, old, young, urgent)[-1])
        assert claimed is not None
        order.append(claimed.job_id)
    assert order == [urgent, old, young]


def test_an_older_jobs_later_stages_go_before_a_younger_jobs_first(world: World) -> None:
    old = world.create(seed=1)
    others = [world.create(seed=seed) for seed in range(2, 30)]
    world.do(old, "ingest")
    for job in others:
        world.do(job, "ingest")
    # Else all jobs would be probed before the first of them is scored, and all would end at the very end.
    claimed = world.try_claim(world.stage(others[-1], "probe:initial"))
    assert claimed is not None
    assert claimed.job_id == old


def test_no_more_jobs_of_a_team_run_than_may(world: World) -> None:
    world.between(small=TeamSettings(max_running_jobs=1))
    first, second = (world.create(team="small", seed=seed) for seed in (1, 2))
    world.do(first, "ingest")
    other = world.create(seed=3)
    claimed = world.try_claim(world.stage(second, "ingest"))
    assert claimed is not None
    assert claimed.job_id == other
    assert world.try_claim(world.stage(second, "ingest")) is None
    assert "runs 1 jobs" in (queue(world)[second].reason or "")
    world.do_all(first)
    assert world.try_claim(world.stage(second, "ingest")) is not None


def test_two_claims_at_once_do_not_both_take_the_last_place(world: World) -> None:
    world.between(small=TeamSettings(max_running_jobs=2))
    jobs = [world.create(team="small", seed=seed) for seed in range(8)]
    stages = [world.stage(job, "ingest") for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(world.try_claim, stages))
    assert sum(claimed is not None for claimed in claims) == 2
    assert sum(world.job(job).status is JobStatus.RUNNING for job in jobs) == 2


def dispatched(world: World) -> list[str]:
    """The stages that were dispatched since the last call."""
    unsent = [row.stage_id for row in world.outbox() if row.sent_at is None]
    world.relay.send_due()
    return unsent


def succeeds(world: World, claimed: ClaimedStage) -> None:
    world.complete(claimed)
    world.do_all(claimed.job_id)


def fails(world: World, claimed: ClaimedStage) -> None:
    world.fail(claimed, TooFewKnown("Three."))


def is_cancelled(world: World, claimed: ClaimedStage) -> None:
    world.control.cancel(claimed.job_id)
    world.release(claimed)


def is_paused(world: World, claimed: ClaimedStage) -> None:
    world.control.pause(claimed.job_id)
    world.release(claimed)


def is_lost_and_cancelled(world: World, claimed: ClaimedStage) -> None:
    world.control.cancel(claimed.job_id)
    world.clock.advance(SETTINGS.lease_seconds + 1)
    assert world.maintenance.reap() == 1


WAYS: tuple[Callable[[World, ClaimedStage], None], ...] = (
    succeeds,
    fails,
    is_cancelled,
    is_paused,
    is_lost_and_cancelled,
)


def test_when_a_teams_job_ends_or_pauses_its_next_one_is_dispatched_at_once(world: World) -> None:
    world.between(small=TeamSettings(max_running_jobs=1))
    for number, ends in enumerate(WAYS):
        first, second, third = (world.create(team="small", seed=10 * number + n) for n in range(3))
        claimed = world.claim(first, "ingest")
        waits = world.stage(second, "ingest")
        dispatched(world)
        # A worker was free and got nothing: no message is left.
        assert world.try_claim(waits) is None
        ends(world, claimed)
        assert dispatched(world).count(waits.id) == 1, ends
        assert world.stage(third, "ingest").id not in dispatched(world)
        for job in (second, third):
            world.control.cancel(job)


def test_where_a_team_has_no_limit_the_end_of_a_job_dispatches_nothing(world: World) -> None:
    first, _ = (world.create(seed=seed) for seed in (1, 2))
    claimed = world.claim(first, "ingest")
    dispatched(world)
    fails(world, claimed)
    assert dispatched(world) == []


def test_space_that_comes_back_is_noticed_by_the_next_maintenance(world: World) -> None:
    waits = world.stage(world.create(), "ingest")
    dispatched(world)
    world.has_space = False
    assert world.try_claim(waits) is None
    world.maintenance.redispatch()
    assert dispatched(world) == []
    world.has_space = True
    for expected in ([waits.id], []):
        world.maintenance.redispatch()
        assert dispatched(world) == expected


def test_gpu_seconds_that_come_back_are_noticed_by_the_next_maintenance(world: World) -> None:
    world.between(small=TeamSettings(gpu_seconds_per_day=100.0))
    job = world.create(team="small")
    world.do(job, "ingest")
    claimed = world.claim(job, "answer:basic")
    world.clock.advance(80)
    world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence))
    world.clock.advance(30)
    world.complete(claimed)
    dispatched(world)
    world.clock.advance(24 * 3600 - 1)
    waits = world.stage(job, "probe:initial")
    world.maintenance.redispatch()
    dispatched(world)
    assert world.try_claim(waits) is None
    world.maintenance.redispatch()
    assert dispatched(world) == []
    world.clock.advance(2)
    world.maintenance.redispatch()
    assert waits.id in dispatched(world)


def test_a_new_teams_first_two_claims_at_once_both_get_a_stage(world: World) -> None:
    stage = world.stage(world.create(team="new"), "ingest")
    other = Attempt(
        stage_id=stage.id,
        fence=0,
        job_id=stage.job_id,
        team=stage.team,
        queue=stage.queue,
        kind=stage.kind,
        number=1,
        owner="another worker",
        outcome=AttemptOutcome.RUNNING,
        started_at=world.clock.now,
    )
    with ThreadPoolExecutor(1) as pool:
        with world.database.write() as session:
            note_start(session, other)
            session.flush()
            claim = pool.submit(world.try_claim, stage)
            with suppress(NotYet):
                claim.result(timeout=0.3)
        assert claim.result() is not None


def test_a_team_that_had_its_gpu_seconds_waits_until_they_are_a_day_old(world: World) -> None:
    world.between(small=TeamSettings(gpu_seconds_per_day=100.0))
    job = world.create(team="small")
    world.do(job, "ingest")
    claimed = world.claim(job, "answer:basic")
    world.clock.advance(80)
    world.calls.renew(claimed.stage_id, Renew(fence=claimed.fence))
    world.clock.advance(30)
    world.complete(claimed)
    assert world.try_claim(world.stage(job, "probe:initial")) is None
    assert "100 GPU seconds" in (queue(world)[job].reason or "")
    world.clock.advance(24 * 3600 + 1)
    assert world.try_claim(world.stage(job, "probe:initial")) is not None


def test_stages_without_a_model_count_against_no_gpu_seconds(world: World) -> None:
    world.between(small=TeamSettings(gpu_seconds_per_day=0.0))
    job = world.create(team="small")
    world.do(job, "ingest")
    assert world.try_claim(world.stage(job, "probe:initial")) is None


def test_a_position_tells_how_many_are_ahead_and_when_the_job_may_start(world: World) -> None:
    done = world.create(seed=0, units={"ingest": 100})
    claimed = world.claim(done, "ingest")
    world.clock.advance(10)
    world.complete(claimed)
    world.control.cancel(done)
    jobs = [world.create(seed=seed, units={"ingest": 100}) for seed in (1, 2, 3)]
    found = queue(world)
    assert [found[job].ahead for job in jobs] == [0, 1, 2]
    starts = [found[job].estimated_start_at for job in jobs]
    assert [None if at is None else (at - world.clock.now).total_seconds() for at in starts] == [0.0, 10.0, 20.0]


def test_positions_mix_teams_as_the_workers_do(world: World) -> None:
    many = [world.create(team="many", seed=seed) for seed in range(5)]
    one = world.create(team="one", seed=9)
    found = queue(world)
    assert found[one].ahead <= 1
    assert sorted(found[job].ahead for job in [*many, one]) == [0, 1, 2, 3, 4, 5]


def test_without_history_no_start_is_promised(world: World) -> None:
    job = world.create()
    assert queue(world)[job].estimated_start_at is None


def test_a_full_store_is_why_everything_waits(world: World) -> None:
    job = world.create()
    world.has_space = False
    assert "space" in (queue(world)[job].reason or "")


def test_every_team_has_positions_however_many_another_one_queues(world: World) -> None:
    many = [world.create(team="a", seed=seed) for seed in range(12)]
    one = world.create(team="z", seed=100)
    found = queue(world, most=10)
    assert found[one].ahead <= 1
    assert sorted(found[job].ahead for job in many if job in found) == [n for n in range(6) if n != found[one].ahead]
