"""Jobs that are stored in one transaction: each is as it would be alone, and one that cannot be touches no other."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.services.gateway.rigs.world import World, resolved

from craft.contracts.events import EventType, StageStatus
from craft.errors import IdempotencyConflict, RequestInvalid
from craft_gateway.lifecycle.creation import CreatedJob, Idempotency, NewJob, Origin
from craft_gateway.plan.stages import plan

_HASH = "a" * 64


def new(seed: int, *, world: World | None = None, **members: Any) -> NewJob:
    """A job; with a world it takes over what is there."""
    job = resolved(seed=seed)
    stages = plan(job)
    return NewJob(job, stages, world.control.reusable(stages) if world else {}, **members)


def keyed(key: str, seed: int = 1, body_hash: str = _HASH) -> NewJob:
    return new(seed, idempotency=Idempotency(key, body_hash))


def ids(outcomes: list[CreatedJob | Exception]) -> list[str]:
    assert all(isinstance(outcome, CreatedJob) for outcome in outcomes), outcomes
    return [outcome.id for outcome in outcomes if isinstance(outcome, CreatedJob)]


def test_each_job_is_as_it_would_be_alone(world: World) -> None:
    alone = world.create(seed=1)
    who = [Origin("a", actor="key of a"), Origin("b", actor="key of b"), Origin("a", actor=None)]
    made = ids(world.control.create_jobs([new(seed, origin=origin) for seed, origin in enumerate(who)]))
    assert len({alone, *made}) == 4
    for job_id, origin in zip(made, who, strict=True):
        assert world.job(job_id).team == origin.team
        events = world.events(job_id)
        assert [(event.seq, event.type, event.team, event.actor) for event in events] == [
            (1, EventType.JOB_CREATED, origin.team, origin.actor),
            (2, EventType.JOB_QUEUED, origin.team, origin.actor),
        ]
        stages, expected = world.stages(job_id), world.stages(alone)
        assert {name: stage.status for name, stage in stages.items()} == {
            name: stage.status for name, stage in expected.items()
        }
        assert [row.stage_id for row in world.outbox()].count(stages["ingest"].id) == 1


def test_what_speaks_against_one_job_touches_no_other(world: World) -> None:
    first, gone, last = world.control.create_jobs([new(1), new(2, new_data=True), new(3)])
    assert isinstance(gone, RequestInvalid)
    assert len(set(ids([first, last]))) == 2
    assert len(world.outbox()) == 2


def test_one_that_cannot_be_stored_leaves_the_others_stored(world: World) -> None:
    broken = new(2, origin=Origin(team=None))  # type: ignore[arg-type] # the table refuses it
    first, refused, last = world.control.create_jobs([new(1), broken, new(3)])
    assert isinstance(refused, Exception)
    assert not isinstance(refused, CreatedJob)
    for job_id in ids([first, last]):
        assert world.stage(job_id, "ingest").status is StageStatus.READY
    assert len(world.outbox()) == 2


def test_one_key_twice_among_them_makes_one_job(world: World) -> None:
    before = ids(world.control.create_jobs([keyed("there before")]))
    outcomes = world.control.create_jobs(
        [keyed("k"), keyed("other"), keyed("k"), keyed("k", body_hash="b" * 64), keyed("there before")]
    )
    first, other, again, conflict, earlier = outcomes
    assert isinstance(conflict, IdempotencyConflict)
    made = ids([first, other, again, earlier])
    assert made[0] == made[2] != made[1]
    assert made[3] == before[0]
    assert [outcome.repeated for outcome in outcomes if isinstance(outcome, CreatedJob)] == [False, False, True, True]


def test_the_same_keys_at_once_in_whatever_order_make_one_job_each(world: World) -> None:
    names = [f"key {number}" for number in range(6)]

    def made(turn: int) -> list[str]:
        order = names if turn % 2 else names[::-1]
        by_name = dict(zip(order, ids(world.control.create_jobs([keyed(name) for name in order])), strict=True))
        return [by_name[name] for name in names]

    with ThreadPoolExecutor(6) as pool:
        assert len({tuple(found) for found in pool.map(made, range(6))}) == 1


def test_jobs_of_one_transaction_take_over_what_is_there(world: World) -> None:
    first = world.create(seed=1)
    world.do(first, "ingest")
    world.relay.send_due()
    made = ids(world.control.create_jobs([new(1, world=world), new(1), new(1, world=world)]))
    assert [world.stage(job_id, "ingest").status for job_id in made] == [
        StageStatus.SUCCEEDED,
        StageStatus.READY,
        StageStatus.SUCCEEDED,
    ]
    hinted = [row.stage_id for row in world.outbox()]
    wanted = [world.stage(job_id, name).id for job_id, name in zip(made, ["probe:initial", "ingest"] * 2, strict=False)]
    assert set(wanted) <= set(hinted)


def test_no_jobs_are_no_transaction(world: World) -> None:
    assert world.control.create_jobs([]) == []
