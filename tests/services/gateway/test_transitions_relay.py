"""The relay keeps hints while the broker is down and sends each at least once."""

import pytest
from tests.services.gateway.world import World

from craft.contracts.stages import Service
from craft.errors import Unavailable


def test_nothing_is_lost_while_the_broker_is_down(world: World) -> None:
    jobs = [world.create(seed=seed) for seed in range(3)]
    world.broker.up = False
    for _ in range(3):
        with pytest.raises(Unavailable):
            world.relay.send_due()
    assert world.broker.sent == []
    world.broker.up = True
    assert world.relay.send_due() == 3
    assert world.relay.send_due() == 0
    assert world.broker.sent == [(Service.DATASETS, world.stage(job, "ingest").id) for job in jobs]


def test_what_was_sent_before_the_broker_went_away_is_not_sent_again(world: World) -> None:
    jobs = [world.create(seed=seed) for seed in range(3)]

    def breaks_after_two(service: Service, stage_id: str) -> None:
        if len(world.broker.sent) == 2:
            raise Unavailable("down")
        world.broker.sent.append((service, stage_id))

    relay = type(world.relay)(world.database, breaks_after_two)
    with pytest.raises(Unavailable):
        relay.send_due()
    assert world.relay.send_due() == 1
    assert [stage_id for _, stage_id in world.broker.sent] == [world.stage(job, "ingest").id for job in jobs]


def test_hints_of_urgent_jobs_are_sent_first(world: World) -> None:
    ordinary, urgent = world.create(seed=1), world.create(seed=2, priority=80)
    world.relay.send_due()
    assert [stage_id for _, stage_id in world.broker.sent] == [
        world.stage(job, "ingest").id for job in (urgent, ordinary)
    ]
