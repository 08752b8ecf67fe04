"""Real coordinators that send and are killed with SIGKILL: what was sent and not recorded comes again, as the same."""

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.chaos.rig.processes import Part, host_environment
from tests.ports import free_ports
from tests.services.gateway.rigs.public_rig import Rig, open_rig
from tests.services.gateway.rigs.receiver import Handler, Received, Receiver, receiving
from tests.services.gateway.rigs.sending import verified

START_SECONDS = 60.0
LOOK_SECONDS = 0.05


class Coordinators:
    """Coordinator processes over one rig's state folder. There is no broker: only stages wait for one."""

    def __init__(self, state: Path, count: int) -> None:
        self.state = state
        self.ports = free_ports(count)
        self.parts = [self._part(number, port) for number, port in enumerate(self.ports)]

    def _part(self, number: int, port: int) -> Part:
        own = {
            "CRAFT_STATE_DIR": str(self.state),
            "CRAFT_COORDINATOR__PORT": str(port),
            "CRAFT_OUTBOUND__ALLOWED_HOSTS": '["127.0.0.1"]',
        }
        command = [sys.executable, "-m", "craft_gateway.coordinator"]
        return Part(f"coordinator-{number}", command, environment=host_environment() | own, logs=self.state)

    def start(self) -> None:
        for part in self.parts:
            part.start()
        for part, port in zip(self.parts, self.ports, strict=True):
            until(lambda port=port: answers(port), part.last_lines)  # type: ignore[misc]

    def kill(self) -> None:
        for part in self.parts:
            part.kill()


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz").is_success
    except httpx.TransportError:
        return False


def until(what: Callable[[], bool], detail: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not what():
        assert time.monotonic() < deadline, detail()
        time.sleep(LOOK_SECONDS)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as made:
        # Coordinators look whether the database is migrated.
        with sqlite3.connect(tmp_path / "craft.db") as connection:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
            connection.execute("INSERT INTO alembic_version VALUES ('a version after this one')")
        connection.close()
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def started(state: Path, count: int) -> Iterator[Coordinators]:
    made = Coordinators(state, count)
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
def coordinator(rig: Rig, tmp_path: Path) -> Iterator[Coordinators]:
    yield from started(tmp_path, 1)


@pytest.fixture
def two(rig: Rig, tmp_path: Path) -> Iterator[Coordinators]:
    yield from started(tmp_path, 2)


def test_what_was_sent_and_not_recorded_comes_again_with_its_id(
    rig: Rig, receiver: Receiver, coordinator: Coordinators, tmp_path: Path
) -> None:
    def killing(handler: Handler, received: Received) -> None:
        receiver.behaviours.clear()
        coordinator.kill()

    receiver.behaviours["/"] = killing
    hook = rig.post("/craft/webhooks", json={"url": receiver.url()}).json()
    path = f"/craft/webhooks/{hook['id']}"
    sent = rig.post(f"{path}/test").json()
    receiver.wait(1)
    until(lambda: not coordinator.parts[0].alive)
    shown = rig.get(f"{path}/deliveries/{sent['id']}").json()
    assert (shown["status"], shown["attempts"], shown["response_status"]) == ("pending", 1, None)
    coordinator.start()
    # Nobody may send it before the minute is over that the dead one had for it: let it be over.
    assert len(receiver.received) == 1
    with sqlite3.connect(tmp_path / "craft.db", timeout=20) as connection:
        connection.execute("UPDATE webhook_delivery SET due_at = datetime(due_at, '-61 seconds') || '.000000'")
    connection.close()
    first, second = receiver.wait(2)
    assert first.id == second.id == sent["id"]
    assert first.body == second.body
    assert verified(second, hook["secret"])["type"] == "webhook.test"
    until(lambda: rig.get(f"{path}/deliveries/{sent['id']}").json()["status"] == "delivered")
    assert rig.get(f"{path}/deliveries/{sent['id']}").json()["attempts"] == 2


def test_two_coordinators_send_each_message_once(rig: Rig, receiver: Receiver, two: Coordinators) -> None:
    hook = rig.post("/craft/webhooks", json={"url": receiver.url(), "types": ["job.created"]}).json()
    path = f"/craft/webhooks/{hook['id']}"
    ids = sorted(rig.post(f"{path}/test").json()["id"] for _ in range(60))
    receiver.wait(60)
    until(lambda: not rig.get(f"{path}/deliveries?status=pending").json()["data"])
    assert sorted(each.id for each in receiver.received) == ids
    metrics = [httpx.get(f"http://127.0.0.1:{port}/metrics").text for port in two.ports]
    delivered = [
        float(line.split()[-1])
        for text in metrics
        for line in text.splitlines()
        if line.startswith('craft_webhook_attempts_total{outcome="delivered"}')
    ]
    assert sum(delivered) == 60
    assert all("craft_webhook_undelivered 0.0" in text for text in metrics)


def test_a_coordinator_that_gets_a_stop_signal_stops_while_a_receiver_hangs(
    rig: Rig, receiver: Receiver, coordinator: Coordinators
) -> None:
    receiver.behaviours["/"] = receiver.hang
    hook = rig.post("/craft/webhooks", json={"url": receiver.url()}).json()
    rig.post(f"/craft/webhooks/{hook['id']}/test")
    receiver.wait(1)
    (part,) = coordinator.parts
    start = time.monotonic()
    part.terminate()
    until(lambda: not part.alive)
    assert time.monotonic() - start < 8.0
