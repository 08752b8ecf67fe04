"""The relay keeps messages while the broker is down and sends each at least once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.services.gateway.rigs.world import FakeBroker, World

from craft.contracts.stages.kinds import Service
from craft.errors import Unavailable
from craft_gateway.lifecycle.dispatch import OutboxRelay


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

    class BreaksAfterTwo(FakeBroker):
        def send(self, service: Service, stage_id: str) -> None:
            if len(world.broker.sent) == 2:
                raise Unavailable("down")
            world.broker.sent.append((service, stage_id))

    relay = OutboxRelay(world.database, BreaksAfterTwo())
    with pytest.raises(Unavailable):
        relay.send_due()
    assert world.relay.send_due() == 1
    assert [stage_id for _, stage_id in world.broker.sent] == [world.stage(job, "ingest").id for job in jobs]


def test_with_a_broker_that_lost_everything_all_ready_stages_are_dispatched_again(world: World) -> None:
    first, second = (world.create(seed=seed) for seed in range(2))
    world.relay.send_due()
    world.claim(first, "ingest")
    world.broker.sent.clear()
    world.maintenance.dispatch_all()
    world.relay.send_due()
    assert world.broker.sent == [(Service.DATASETS, world.stage(second, "ingest").id)]
    # One that has them still gets none of them twice.
    world.broker.sent.clear()
    world.broker.unread = {Service.DATASETS: 1}
    world.maintenance.dispatch_all()
    world.relay.send_due()
    assert world.broker.sent == []


def test_messages_of_urgent_jobs_are_sent_first(world: World) -> None:
    ordinary, urgent = world.create(seed=1), world.create(seed=2, priority=80)
    world.relay.send_due()
    assert [stage_id for _, stage_id in world.broker.sent] == [
        world.stage(job, "ingest").id for job in (urgent, ordinary)
    ]


def test_two_relays_at_once_send_each_message_once(world: World) -> None:
    for seed in range(300):
        world.create(seed=seed)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: [world.relay.send_due() for _ in range(4)], range(2)))
    assert len(world.broker.sent) == len({stage_id for _, stage_id in world.broker.sent}) == 300


def test_a_page_that_a_dead_relay_leased_is_sent_by_another_later(world: World) -> None:
    world.create()

    class Killed(FakeBroker):
        def send(self, service: Service, stage_id: str) -> None:
            raise SystemExit

    class Dying(OutboxRelay):
        """A process that is killed marks nothing."""

        def _mark_handled(self, sent: Sequence[int], unsent: Sequence[int]) -> None:
            del sent, unsent

    dying = Dying(world.database, Killed())
    with pytest.raises(SystemExit):
        dying.send_due()
    assert world.relay.send_due() == 0
    world.clock.advance(31)
    assert world.relay.send_due() == 1


def test_stages_that_wait_for_hours_do_not_fill_the_broker(world: World) -> None:
    for seed in range(20):
        world.create(seed=seed)
    for _ in range(60):
        world.maintenance.redispatch()
        world.relay.send_due()
        world.broker.unread = {Service.DATASETS: len(world.broker.sent)}
        world.clock.advance(61)
    assert len(world.broker.sent) == 20


def test_a_stage_whose_message_was_wasted_is_dispatched_again(world: World) -> None:
    world.create()
    for _ in range(3):
        world.maintenance.redispatch()
        world.relay.send_due()
        world.clock.advance(61)
    assert len(world.broker.sent) == 3
