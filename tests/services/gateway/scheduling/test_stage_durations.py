"""A job's expected start counts each stage before it as its estimate would: by its size, from the same history."""

import pytest
from tests.services.gateway.rigs.world import World, estimate_of, resolved, sha

from craft.contracts.stages.kinds import StageKind
from craft_gateway.lifecycle.creation import Origin
from craft_gateway.scheduling.allowances import team_allowances
from craft_gateway.scheduling.duration_model import read_duration_model
from craft_gateway.scheduling.queue import positions
from craft_gateway.scheduling.stage_durations import StageDurations, StageRef

_seeds = iter(range(1_000_000))


def queued(world: World, units: float | None) -> str:
    """A job whose ingest stage is that large; None where its job has no estimate."""
    return world.create(seed=next(_seeds), units=None if units is None else {"ingest": units})


def done(world: World, *, units: float, seconds: float) -> None:
    """The history gets one ingest stage more, before all that waits."""
    job = world.create(seed=next(_seeds), units={"ingest": units}, priority=99)
    claimed = world.claim(job, "ingest", "worker")
    world.clock.advance(seconds)
    world.complete(claimed)
    world.control.cancel(job)


def starts(world: World, *jobs: str) -> list[float | None]:
    """Seconds until each job is expected to start."""
    with world.database.read() as session:
        teams, now = team_allowances(session), world.clock.now
        found = positions(session, teams, now, has_space=True, durations=StageDurations())
    times = [found[job].estimated_start_at for job in jobs]
    return [None if at is None else (at - now).total_seconds() for at in times]


def test_a_stage_three_times_as_large_delays_those_behind_it_three_times_as_long(world: World) -> None:
    done(world, units=100, seconds=10)
    assert starts(world, *(queued(world, units) for units in (100, 300, 100))) == [0.0, 10.0, 40.0]


def test_fixed_time_counts_once_for_each_stage(world: World) -> None:
    # 4 s, and 0.1 s for each unit: two sizes tell the two apart.
    done(world, units=100, seconds=14)
    done(world, units=200, seconds=24)
    assert starts(world, *(queued(world, units) for units in (10, 1000, 10))) == pytest.approx([0.0, 5.0, 109.0])


def test_a_running_stage_delays_by_what_is_left_of_it(world: World) -> None:
    done(world, units=100, seconds=10)
    running, waiting = queued(world, 100), queued(world, 100)
    world.claim(running, "ingest", "worker")
    world.clock.advance(4)
    assert starts(world, waiting) == [6.0]
    world.clock.advance(20)
    assert starts(world, waiting) == [0.0]


def test_behind_a_job_without_an_estimate_the_start_is_unknown(world: World) -> None:
    done(world, units=100, seconds=10)
    assert starts(world, queued(world, 100), queued(world, None), queued(world, 100)) == [0.0, 10.0, None]


def test_it_predicts_as_the_estimate_does_with_another_model_too(world: World) -> None:
    small = world.create(seed=next(_seeds), units={"ingest": 1, "probe:initial": 100})
    world.do(small, "ingest")
    claimed = world.claim(small, "probe:initial", "worker")
    world.clock.advance(50)
    world.complete(claimed)
    model = resolved().model.model_copy(update={"digest": sha("a larger model")})
    job = resolved(seed=next(_seeds)).model_copy(update={"model": model})
    estimate = estimate_of({"probe:initial": 10}, parameters=2_000_000)
    large = world.control.create_job(job, origin=Origin(), estimate=estimate).id
    with world.database.read() as session:
        predicted = StageDurations().predict(session, [StageRef(large, "probe:initial", StageKind.PROBE)])
        estimated = read_duration_model(session, StageKind.PROBE, model.digest, 2_000_000).seconds(10)
    # 0.5 s for each reply, twice that with a model of twice the size.
    assert predicted == [estimated.seconds] == [10.0]


def test_history_is_read_again_after_some_seconds(world: World) -> None:
    now = [0.0]
    durations = StageDurations(model_seconds=5.0, clock=lambda: now[0])
    done(world, units=100, seconds=10)
    stage = StageRef(queued(world, 100), "ingest", StageKind.INGEST)

    def predicted() -> list[float | None]:
        with world.database.read() as session:
            return durations.predict(session, [stage])

    assert predicted() == [10.0]
    done(world, units=100, seconds=20)
    now[0] = 4.9
    assert predicted() == [10.0]
    now[0] = 5.0
    assert predicted() == pytest.approx([15.0])
