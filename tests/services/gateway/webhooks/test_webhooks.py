"""Webhooks: what is sent, how it is signed, and what becomes of receivers that fail, hang, leave or lead elsewhere."""

import asyncio
import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import event as sql_event
from sqlalchemy import insert
from standardwebhooks import WebhookVerificationError
from tests.services.gateway.rigs.postgres import ON_POSTGRESQL
from tests.services.gateway.rigs.receiver import answer, drip, endless, reset
from tests.services.gateway.rigs.sending import ADMIN, PER_HOST, Sending, open_sending, verified
from tests.services.gateway.rigs.world import World
from tests.services.gateway.test_coordinator import cpu_seconds

from craft.contracts.events import EventType
from craft.contracts.public.webhooks import DeliveryStatus, WebhookChange, wants
from craft.errors import Conflict, NotFound, RequestInvalid
from craft_gateway.access.identity import Caller
from craft_gateway.events import message, new_delivery
from craft_gateway.lifecycle.job_transaction import job_transaction
from craft_gateway.store.tables import Delivery
from craft_gateway.webhooks.deliveries import DISABLED_AFTER_FAILURES, LEASE, DeliveryResult, pause_seconds
from craft_gateway.webhooks.http_post import Answer, DeliveryOutcome
from craft_gateway.webhooks.sender import sender_thread

METADATA = "http://169.254.169.254/latest/meta-data/"


@pytest.fixture(params=["world", pytest.param("postgres", marks=ON_POSTGRESQL)])
def sending(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sending]:
    with open_sending(request.getfixturevalue(request.param), tmp_path / "state") as made:
        yield made


def one(sending: Sending, path: str = "/") -> tuple[str, Delivery]:
    """A job whose one event waits for one webhook: its id and the delivery."""
    hook = sending.hook(path, "job.created")
    job = sending.world.create()
    return job, sending.row(hook)


def again(sending: Sending, delivery: Delivery) -> Delivery:
    return sending.log.find(delivery.webhook_id, delivery.id)


def test_an_event_arrives_signed_as_the_standards_library_expects(sending: Sending) -> None:
    hook = sending.hook("/", "job.failed")
    job = sending.world.create()
    claimed = sending.world.claim(job, "ingest")
    sending.world.fail(claimed, RequestInvalid("Größe 可以 🙂 \0 ist falsch."))
    sending.deliver()
    (received,) = sending.receiver.received
    found = verified(received, hook.secret)
    assert (found["type"], received.headers["content-type"]) == ("job.failed", "application/json")
    data = found["data"]
    assert isinstance(data, dict)
    assert (data["subject"], data["team"]) == (job, "default")
    assert data["seq"] == sending.world.events(job)[-1].seq
    assert "Größe 可以 🙂 \\x00 ist falsch." in str(data["details"]["error"])
    row = sending.row(hook)
    assert (row.id, row.status, row.attempts) == (received.id, DeliveryStatus.DELIVERED, 1)
    assert (row.response_status, row.response_body) == (200, "thanks")


def test_a_changed_body_id_time_or_secret_is_found_out(sending: Sending) -> None:
    hook = sending.hook("/", "job.created")
    sending.world.create()
    sending.deliver()
    (received,) = sending.receiver.received
    verified(received, hook.secret)
    other = sending.hook("/other", "job.created").secret
    with pytest.raises(WebhookVerificationError):
        verified(received, other)
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        changed = {**received.headers, name: received.headers[name].replace("1", "2", 1) + "0"}
        with pytest.raises((WebhookVerificationError, ValueError)):
            verified(type(received)("/", changed, received.body), hook.secret)
    with pytest.raises(WebhookVerificationError):
        verified(type(received)("/", received.headers, received.body + b" "), hook.secret)


def test_what_no_json_can_say_does_not_fail_an_event(world: World) -> None:
    body = message("job.progress", world.clock.now, {"loss": float("nan"), "rate": [float("inf")], "text": "\ud800\0"})
    assert body.isascii()
    assert '"loss":null,"rate":[null],"text":"\\ud800\\u0000"' in body


@pytest.mark.parametrize(
    ("types", "wanted", "unwanted"),
    [
        (["*"], "stage.started", "job.progress"),
        (["*"], "webhook.disabled", "key.created"),
        (["*"], "dataset.created", "team.changed"),
        (["job.*"], "job.succeeded", "job.progress"),
        (["job.*"], "job.failed", "stage.failed"),
        (["job.*", "job.progress"], "job.progress", "stage.started"),
        (["key.*"], "key.revoked", "team.changed"),
        (["job.failed"], "job.failed", "job.failed.not"),
    ],
)
def test_patterns_choose_events(types: list[str], wanted: str, unwanted: str) -> None:
    assert (wants(types, wanted), wants(types, unwanted)) == (True, False)


def test_without_a_webhook_an_event_costs_one_look_and_no_row(sending: Sending) -> None:
    job = sending.world.create()
    sending.hook("/", "job.*", caller=Caller("somebody", "another-team", ADMIN.scopes))
    seen: list[str] = []
    sql_event.listen(
        sending.world.database.engine,
        "before_cursor_execute",
        lambda _1, _2, statement, *_rest: seen.append(statement) if "webhook" in statement else None,
    )
    sending.emit(job)
    assert [statement.split()[0] for statement in seen] == ["SELECT"]
    assert sending.rows() == []


def test_what_is_rolled_back_is_never_sent(sending: Sending) -> None:
    sending.hook("/", "*")
    job = sending.world.create()
    before = len(sending.rows())

    def fail() -> None:
        with job_transaction(sending.world.database, job) as unit:
            unit.emit(EventType.JOB_QUEUED)
            raise ValueError("rolled back")

    with pytest.raises(ValueError, match="rolled back"):
        fail()
    assert len(sending.rows()) == before


def test_a_receiver_that_fails_for_a_minute_gets_everything_with_the_same_ids(sending: Sending) -> None:
    hook = sending.hook("/", "job.created")
    sending.receiver.behaviours["/"] = answer(503, b"not yet")
    for seed in range(3):
        sending.world.create(seed=seed)
    for _ in range(4):
        sending.deliver()
        sending.world.clock.advance(15)
    assert {row.status for row in sending.rows(hook)} == {DeliveryStatus.PENDING}
    assert (sending.rows(hook)[0].response_status, sending.rows(hook)[0].response_body) == (503, "not yet")
    failing = sending.now(hook)
    assert failing.failures > 3
    assert failing.failing_since is not None
    del sending.receiver.behaviours["/"]
    sending.world.clock.advance(120)
    sending.deliver()
    assert {row.status for row in sending.rows(hook)} == {DeliveryStatus.DELIVERED}
    assert {each.id for each in sending.receiver.received} == {row.id for row in sending.rows(hook)}
    recovered = sending.now(hook)
    assert (recovered.failures, recovered.failing_since) == (0, None)
    assert recovered.last_delivered_at == sending.world.clock.now


def test_pauses_grow_to_hours_and_end_after_a_day(sending: Sending) -> None:
    sending.receiver.behaviours["/"] = reset
    _, row = one(sending)
    pauses: list[float] = []
    while row.status is DeliveryStatus.PENDING:
        sending.deliver()
        row = again(sending, row)
        pauses.append((row.due_at - sending.world.clock.now).total_seconds())
        sending.world.clock.now = row.due_at
    for tries, pause in enumerate(pauses, start=1):
        low, high = (pause_seconds(tries, jitter=jitter) for jitter in (0.0, 1.0))
        assert low <= pause <= high
    assert 10 <= row.attempts <= 16
    assert (row.status, row.error is not None) == (DeliveryStatus.FAILED, True)
    assert row.ended_at is not None
    assert timedelta(hours=16) < row.ended_at - row.created_at <= timedelta(days=1)
    sending.deliver()
    assert again(sending, row).attempts == row.attempts


def test_a_pause_that_the_receiver_asks_for_is_kept(sending: Sending) -> None:
    sending.receiver.behaviours["/"] = answer(429, Retry_After="600")
    _, row = one(sending)
    sending.deliver()
    assert again(sending, row).due_at == sending.world.clock.now + timedelta(seconds=600)


def test_410_switches_the_webhook_off_and_says_so(sending: Sending) -> None:
    sending.receiver.behaviours["/gone"] = answer(410, b"bye")
    gone, watching = sending.hook("/gone", "job.*"), sending.hook("/watching", "webhook.disabled")
    job = sending.world.create()
    sending.deliver()
    off = sending.now(gone)
    assert (off.active, off.inactive_reason) == (False, "the receiver answered 410 (gone)")
    (received,) = sending.receiver.of("/watching")
    data = verified(received, watching.secret)["data"]
    assert isinstance(data, dict)
    assert (data["subject"], data["details"]["host"]) == (gone.row.id, "127.0.0.1")
    before = len(sending.rows(gone))
    sending.emit(job)
    assert len(sending.rows(gone)) == before
    sending.deliveries.clean_up()
    assert {row.status for row in sending.rows(gone)} == {DeliveryStatus.FAILED}
    with pytest.raises(Conflict, match="off"):
        sending.log.test(gone.row.id)


def test_a_webhook_that_failed_for_days_is_switched_off(sending: Sending) -> None:
    hook = sending.hook("/", "job.queued")
    sending.receiver.behaviours["/"] = answer(500)
    job = sending.world.create()
    for _ in range(DISABLED_AFTER_FAILURES + 2):
        sending.emit(job)
        sending.deliver()
        assert sending.now(hook).active
    sending.world.clock.advance(3 * 86400 + 1)
    sending.emit(job)
    sending.deliver()
    off = sending.now(hook)
    assert (off.active, off.inactive_reason) == (
        False,
        "every attempt failed for 3 days; the last: The receiver answered 500.",
    )
    events = [each.type for each in sending.world.events(hook.row.id)]
    assert events == [EventType.WEBHOOK_CREATED, EventType.WEBHOOK_DISABLED]
    on = sending.webhooks.change(hook.row.id, WebhookChange(active=True), ADMIN)
    assert (on.active, on.inactive_reason, on.failures) == (True, None, 0)


def test_a_redirect_to_the_clouds_metadata_leads_nowhere(sending: Sending) -> None:
    sending.receiver.behaviours["/"] = answer(302, Location=METADATA)
    _, row = one(sending)
    sending.deliver()
    row = again(sending, row)
    assert (row.status, row.response_status) == (DeliveryStatus.PENDING, 302)
    assert row.error is not None
    assert "not followed" in row.error
    assert sending.resolved == ["127.0.0.1"]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.1.2.3"], ["93.184.215.14", "127.0.0.1"], ["::1"]])
def test_a_name_that_means_a_private_address_is_refused_when_connecting(sending: Sending, addresses: list[str]) -> None:
    hook = sending.hook(url=f"https://hooks.example:{sending.receiver.port}/")
    sending.addresses["hooks.example"] = addresses
    sending.world.create()
    sending.deliver()
    row = sending.rows(hook)[0]
    assert row.error is not None
    assert "no public address" in row.error
    assert set(sending.outcomes) == {DeliveryOutcome.FORBIDDEN}
    assert sending.receiver.received == []


def test_a_name_that_means_nothing_is_unreachable_and_not_forbidden(sending: Sending) -> None:
    hook = sending.hook(url="https://nowhere.invalid/")
    sending.world.create()
    sending.deliver()
    row = sending.rows(hook)[0]
    assert row.error is not None
    assert "nowhere.invalid is not known" in row.error
    assert set(sending.outcomes) == {DeliveryOutcome.UNREACHABLE}


def test_a_name_is_resolved_once_for_each_attempt_so_it_cannot_change_in_between(sending: Sending) -> None:
    sending.addresses["localhost"] = ["127.0.0.1"]
    hook = sending.hook(url=sending.receiver.url(host="localhost"))
    sending.world.create()
    sending.deliver()
    assert len(sending.resolved) == len(sending.rows(hook)) == len(sending.receiver.received)
    assert sending.receiver.received[0].headers["host"] == f"localhost:{sending.receiver.port}"


@pytest.mark.parametrize("behaviour", [reset, drip], ids=["reset", "drip"])
def test_who_breaks_off_or_drips_is_tried_again_later(sending: Sending, behaviour: object) -> None:
    sending.receiver.behaviours["/"] = behaviour  # type: ignore[assignment]  # either has the right form
    _, row = one(sending)
    sending.deliver()
    row = again(sending, row)
    assert (row.status, row.attempts, row.response_status) == (DeliveryStatus.PENDING, 1, None)
    assert set(sending.outcomes) <= {DeliveryOutcome.TIMEOUT, DeliveryOutcome.UNREACHABLE}


def test_of_an_answer_without_end_the_first_bytes_are_read(sending: Sending) -> None:
    sending.receiver.behaviours["/"] = endless
    _, row = one(sending)
    sending.deliver()
    row = again(sending, row)
    assert row.status is DeliveryStatus.DELIVERED
    assert row.response_body is not None
    assert row.response_body.startswith("是\N{REPLACEMENT CHARACTER}")
    assert len(row.response_body) == 1000


def test_a_receiver_that_hangs_delays_no_other(world: World, tmp_path: Path) -> None:
    with open_sending(world, tmp_path / "state", seconds=20.0) as sending:
        sending.receiver.behaviours["/hangs"] = sending.receiver.hang
        hanging = sending.hook(url=sending.receiver.url("/hangs", host="localhost"))
        fine = sending.hook("/fine")
        job = world.create()

        async def go() -> None:
            async with sender_thread(sending.sender):
                await asyncio.to_thread(sending.receiver.wait, 1, "/hangs")
                for _ in range(20):
                    await asyncio.to_thread(sending.emit, job)
                await asyncio.to_thread(sending.receiver.wait, len(sending.rows(fine)), "/fine")

        asyncio.run(go())
        assert len(sending.receiver.of("/fine")) >= 20
        assert {row.status for row in sending.rows(hanging)} == {DeliveryStatus.PENDING}
        assert 1 <= sending.receiver.max_at_once["/hangs"] <= PER_HOST


def test_of_one_host_few_are_in_flight_and_of_a_failing_one_a_single_one(sending: Sending) -> None:
    hook = sending.hook("/", "job.queued")
    job = sending.world.create()
    for _ in range(30):
        sending.emit(job)
    first = sending.deliveries.lease(in_flight={}, most=200)
    assert len(first) == PER_HOST
    assert sending.deliveries.lease(in_flight={hook.row.host: PER_HOST}, most=200) == ()
    assert len(sending.deliveries.lease(in_flight={hook.row.host: 3}, most=200)) == 1
    sending.receiver.behaviours["/"] = answer(500)
    sending.deliver()
    sending.world.clock.advance(600)
    assert len(sending.deliveries.lease(in_flight={}, most=200)) == 1


def test_a_hundred_thousand_messages_to_a_dead_host_hold_up_no_other(sending: Sending) -> None:
    dead = sending.hook(url=sending.receiver.url("/dead", host="localhost"), path="")
    moment = sending.world.clock.now
    waiting = [new_delivery(dead.row.id, "job.queued", "{}", moment).model_dump() for _ in range(100_000)]
    with sending.world.database.write() as session:
        session.connection().execute(insert(Delivery), waiting)
    sending.world.clock.advance(1)
    alive = sending.hook("/alive", "job.created")
    sending.world.create()
    taken: list[object] = []
    seconds = cpu_seconds(lambda: taken.extend(sending.deliveries.lease(in_flight={"localhost": 4}, most=200)))
    print(f"CPU seconds of a turn among 100,000 messages: {seconds:.4f}")
    assert [each.webhook_id for each in taken] == [alive.row.id]  # type: ignore[attr-defined]
    assert seconds < 0.2


def test_two_senders_never_send_the_same_message_at_once(sending: Sending) -> None:
    hook = sending.hook("/", "job.queued")
    job = sending.world.create()
    for _ in range(60):
        sending.emit(job)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: sending.deliver(), range(2)))
    sending.deliver()
    rows = sending.rows(hook)
    assert sorted(each.id for each in sending.receiver.received) == sorted(row.id for row in rows)
    assert {row.attempts for row in rows} == {1}


def test_a_message_whose_sender_died_is_sent_again_with_the_same_id(sending: Sending) -> None:
    _, row = one(sending)
    (lost,) = sending.deliveries.lease(in_flight={}, most=1)
    sending.deliver()
    assert sending.receiver.received == []
    sending.world.clock.advance(LEASE.total_seconds() + 1)
    sending.deliver()
    assert [each.id for each in sending.receiver.received] == [lost.delivery_id] == [row.id]
    assert again(sending, row).attempts == 2


def test_rotation_signs_with_both_secrets_for_a_day(sending: Sending) -> None:
    hook = sending.hook("/", "job.queued")
    new = sending.webhooks.rotate(hook.row.id).secret
    assert len(base64.b64decode(new.removeprefix("whsec_"))) == 32
    job = sending.world.create()
    sending.emit(job)
    sending.deliver()
    both = sending.receiver.received[-1]
    verified(both, hook.secret)
    verified(both, new)
    sending.world.clock.advance(86400 + 1)
    sending.emit(job)
    sending.deliver()
    later = sending.receiver.received[-1]
    verified(later, new)
    with pytest.raises(WebhookVerificationError):
        verified(later, hook.secret)


def test_a_lost_key_stops_its_webhooks_alone_and_says_what_to_do(sending: Sending, tmp_path: Path) -> None:
    broken = sending.hook("/broken", "job.created")
    (tmp_path / "state" / "webhook.key").write_text("another key")
    sending = Sending(sending.world, sending.receiver, tmp_path / "state")
    fine = sending.hook("/fine", "job.created")
    sending.world.create()
    sending.deliver()
    assert sending.row(fine).status is DeliveryStatus.DELIVERED
    row = sending.row(broken)
    assert row.error is not None
    assert "cannot be read any more" in row.error
    assert sending.receiver.of("/broken") == []


def test_a_message_can_be_sent_again_whatever_became_of_it(sending: Sending) -> None:
    _, row = one(sending)
    sending.deliver()
    sending.log.redeliver(row.webhook_id, row.id)
    sending.deliver()
    assert [each.id for each in sending.receiver.received] == [row.id, row.id]
    assert len({each.body for each in sending.receiver.received}) == 1
    assert again(sending, row).attempts == 2


def test_what_is_being_sent_cannot_be_sent_beside_it(sending: Sending) -> None:
    _, row = one(sending)
    sending.deliveries.lease(in_flight={}, most=1)
    with pytest.raises(Conflict, match="at this moment"):
        sending.log.redeliver(row.webhook_id, row.id)


def test_what_waits_for_its_next_attempt_can_be_sent_now(sending: Sending) -> None:
    sending.receiver.behaviours["/"] = answer(500)
    _, row = one(sending)
    sending.deliver()
    del sending.receiver.behaviours["/"]
    sending.deliver()
    assert len(sending.receiver.received) == 1
    sending.log.redeliver(row.webhook_id, row.id)
    sending.deliver()
    assert again(sending, row).status is DeliveryStatus.DELIVERED


def test_old_rows_and_those_of_deleted_webhooks_go(sending: Sending) -> None:
    kept, row = one(sending)
    deleted = sending.hook("/deleted", "job.queued")
    sending.emit(kept)
    sending.webhooks.delete(deleted.row.id)
    sending.deliver()
    assert sending.receiver.of("/deleted") == []
    assert not sending.deliveries.clean_up()
    assert {each.status for each in sending.rows(deleted)} == {DeliveryStatus.FAILED}
    sending.world.clock.advance(7 * 86400 + 1)
    sending.deliveries.clean_up()
    assert sending.rows() == []
    with pytest.raises(NotFound):
        sending.log.find(row.webhook_id, row.id)


def test_a_database_that_is_away_for_a_moment_loses_nothing(sending: Sending, monkeypatch: pytest.MonkeyPatch) -> None:
    _, row = one(sending)
    settle, failed = sending.deliveries.settle, threading.Event()

    def once_away(made: object) -> None:
        if not failed.is_set():
            failed.set()
            raise OSError("the database is away")
        settle(made)  # type: ignore[arg-type]

    monkeypatch.setattr(sending.deliveries, "settle", once_away)

    async def go() -> None:
        sender = sending.sender()
        await sender.step()
        await sender.wait_for_attempts()
        with pytest.raises(OSError, match="away"):
            await sender.step()
        await sender.step()

    asyncio.run(go())
    assert again(sending, row).status is DeliveryStatus.DELIVERED
    assert len(sending.receiver.received) == 1


def test_an_answer_that_comes_after_the_next_attempt_began_changes_nothing(sending: Sending) -> None:
    _, row = one(sending)
    (early,) = sending.deliveries.lease(in_flight={}, most=1)
    sending.world.clock.advance(LEASE.total_seconds() + 1)
    (later,) = sending.deliveries.lease(in_flight={}, most=1)
    before = again(sending, row)
    sending.deliveries.settle([DeliveryResult(early, Answer(DeliveryOutcome.GONE, 410))])
    assert again(sending, row) == before
    assert sending.webhooks.find(row.webhook_id).active
    sending.deliveries.settle([DeliveryResult(later, Answer(DeliveryOutcome.DELIVERED, 200))])
    assert again(sending, row).status is DeliveryStatus.DELIVERED
    sending.deliveries.settle([DeliveryResult(later, Answer(DeliveryOutcome.REFUSED, 500))])
    assert again(sending, row).status is DeliveryStatus.DELIVERED
