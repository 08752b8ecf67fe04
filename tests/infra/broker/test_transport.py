"""A worker accepts dispatch messages and nothing else from its queue: real messages, a real Valkey and worker."""

import base64
import json
import pickle
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import ContentDisallowed
from tests.infra.worker.real_worker import Server, SmallCoordinator, running

from craft.contracts.stages.kinds import Service
from craft.infra.broker.celery import celery_app, send_stage
from craft.infra.broker.transport import DispatchTransport, dispatch_message_in
from craft.infra.settings.settings import Settings
from craft.infra.worker import worker as worker_module

SCORING = "craft:scoring"
BEATS_WATCHED = 15
"""At five a second; Celery looks for the next message once a second."""
LATER = "2100-01-01T00:00:00+00:00"


def body(value: object) -> str:
    """A message's body in kombu's encoding."""
    return base64.b64encode(json.dumps(value).encode()).decode()


HEADERS = {"lang": "py", "task": "craft.stage", "id": "a-task", "eta": None, "timelimit": [None, None]}
DELIVERY = {"exchange": "", "routing_key": "scoring"}
PROPERTIES = {"delivery_info": DELIVERY, "delivery_tag": "a-tag", "body_encoding": "base64", "priority": 0}
AFTERWARDS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def message(**changes: object) -> bytes:
    """A dispatch message as it is on the queue, with some members changed."""
    members = {
        "body": body([[], {"stage_id": "stg_forged"}, AFTERWARDS]),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": HEADERS,
        "properties": PROPERTIES,
    }
    return json.dumps(members | {name.replace("_", "-"): value for name, value in changes.items()}).encode()


def dispatch_message(stage_id: object, **more: object) -> bytes:
    """A dispatch message with these keyword arguments."""
    return message(body=body([[], {"stage_id": stage_id, **more}, AFTERWARDS]))


def without(name: str, members: dict[str, Any]) -> dict[str, Any]:
    return {each: value for each, value in members.items() if each != name}


OTHER_MESSAGES = {
    "no characters": b"\xff\xfe not a message",
    "nothing": b"",
    "half of a list": b"[1, 2",
    "a megabyte": b"x" * 1_000_000,
    "a deep list": b"[" * 100_000 + b"]" * 100_000,
    "a list": b"[]",
    "a string": b'"x"',
    "a number": b"1e999",
    "null": b"null",
    "an empty object": b"{}",
    "a body alone": b'{"body": "x"}',
    "a null body": message(body=None),
    "an empty body": message(body=""),
    "a body that is not base64": message(body="!"),
    "a body that is a number": message(body=body(5)),
    "no words": message(body=body([[], {}, {}])),
    "arguments": message(body=body([[1, 2], {"stage_id": "x"}, {}])),
    "other words": dispatch_message("x", more=1),
    "half of a surrogate": dispatch_message("\ud800"),
    "an id of a megabyte": dispatch_message("x" * 1_000_000),
    "an id that is a list": dispatch_message(["x"]),
    "null headers": message(headers=None),
    "no task": message(headers=without("task", HEADERS)),
    "another task": message(headers=HEADERS | {"task": "os.system"}),
    "a task that is a list": message(headers=HEADERS | {"task": ["craft.stage"]}),
    "a task's id that is an object": message(headers=HEADERS | {"id": {}}),
    "null properties": message(properties=None),
    "no delivery tag": message(properties=without("delivery_tag", PROPERTIES)),
    "no delivery information": message(properties=without("delivery_info", PROPERTIES)),
    "a strange queue": message(properties=PROPERTIES | {"delivery_info": {"exchange": "", "routing_key": "celery"}}),
    "another body encoding": message(properties=PROPERTIES | {"body_encoding": "rot13"}),
    "another content encoding": message(content_encoding="zzz"),
    "another content type": message(content_type="application/x-yaml"),
}
WITH_MORE_MEMBERS = {
    "a time": message(headers=HEADERS | {"eta": LATER}),
    "no time": message(headers=HEADERS | {"eta": "never"}),
    "an end": message(headers=HEADERS | {"expires": "2000-01-01T00:00:00+00:00"}),
    "a limit": message(headers=HEADERS | {"timelimit": 5}),
    "a compression": message(headers=HEADERS | {"compression": "zlib"}),
    "retries": message(headers=HEADERS | {"retries": "many"}),
    "another task afterwards": message(
        body=body([[], {"stage_id": "stg_forged"}, {"callbacks": [{"task": "craft.stage", "options": {}}]}])
    ),
    "afterwards a number": message(body=body([[], {"stage_id": "stg_forged"}, {"callbacks": 5, "chord": 5}])),
    "a reply": message(properties=PROPERTIES | {"reply_to": "datasets", "correlation_id": {}}),
}


class Canary:
    """Its pickle creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def pickled(canary: Path) -> bytes:
    """A dispatch message whose body is a pickle that creates the file."""
    dangerous = base64.b64encode(pickle.dumps(Canary(canary))).decode()
    return message(body=dangerous, content_type="application/x-python-serialize", content_encoding="binary")


@dataclass(frozen=True)
class QueueRig:
    """The queue of scoring, with a worker."""

    folder: Path
    settings: Settings
    client: redis.Redis
    coordinator: SmallCoordinator
    worker: "subprocess.Popen[bytes]"

    def put(self, *messages: bytes) -> None:
        """Put messages where the worker takes the next ones, in this order."""
        self.client.rpush(SCORING, *reversed(messages))

    def submit(self, stage_id: str, do: str = "write") -> None:
        self.coordinator.offer_toy(stage_id, do=do)
        send_stage(celery_app(self.settings), Service.SCORING, stage_id)

    def does_its_work(self, stage_id: str) -> bool:
        """Whether the same worker process still runs the stage of a valid dispatch message."""
        self.submit(stage_id)
        while self.coordinator.wait_for("complete").stage_id != stage_id:
            pass
        nothing_left = self.client.llen(SCORING) == self.client.hlen("craft:unacked") == 0
        return nothing_left and self.worker.poll() is None

    def log(self) -> str:
        return (self.folder / "worker.log").read_text()


@contextmanager
def open_rig(folder: Path) -> Iterator[QueueRig]:
    with ExitStack() as stack:
        server = Server(folder / "valkey.sock")
        stack.callback(server.kill)
        coordinator = SmallCoordinator()
        stack.callback(coordinator.close)
        client = stack.enter_context(closing(redis.Redis(unix_socket_path=str(server.path))))
        worker = stack.enter_context(running(folder, coordinator.port))
        yield QueueRig(folder, Settings(state_dir=folder), client, coordinator, worker)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueueRig]:
    with open_rig(tmp_path_factory.mktemp("rig")) as rig:
        yield rig


@pytest.mark.parametrize("garbage", OTHER_MESSAGES.values(), ids=OTHER_MESSAGES)
def test_any_other_message_is_dropped_and_the_worker_lives_on(rig: QueueRig, garbage: bytes) -> None:
    rig.put(garbage)
    assert rig.does_its_work("stg_after_garbage")


def test_a_dropped_message_is_logged_with_its_size_and_its_escaped_first_bytes(rig: QueueRig) -> None:
    rig.put(b"\x1b[31m\n\xff" + b"x" * 1000)
    assert rig.does_its_work("stg_after_escapes")
    (entry,) = (text for text in rig.log().splitlines() if "message_dropped" in text and "1007" in text)
    assert "[31m" in entry
    assert "\x1b" not in entry
    assert "x" * 100 not in entry


@pytest.mark.parametrize("more", WITH_MORE_MEMBERS.values(), ids=WITH_MORE_MEMBERS)
def test_further_members_of_a_dispatch_message_have_no_effect(rig: QueueRig, more: bytes) -> None:
    rig.put(more)
    assert rig.coordinator.wait_for("claim").stage_id == "stg_forged"
    assert rig.does_its_work("stg_after_more")


def test_a_pickle_is_never_loaded(rig: QueueRig, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    rig.put(pickled(canary))
    assert rig.does_its_work("stg_after_pickle")
    assert not canary.exists()


def test_celery_itself_accepts_json_only(rig: QueueRig, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    rig.client.rpush("craft:training", pickled(canary), pickled(canary))
    app = celery_app(rig.settings)
    with app.connection_for_read() as connection, connection.channel() as channel:
        queue = app.amqp.queues["training"](channel)
        accepted = list(app.amqp.TaskConsumer(channel, queues=[queue]).accept or ())
        refused = queue.get(accept=accepted)
        assert refused is not None
        with pytest.raises(ContentDisallowed):
            refused.decode()
        refused.ack()
        assert not canary.exists()
        # The message is dangerous where it is accepted.
        loaded = queue.get(accept=["application/x-python-serialize"])
        assert loaded is not None
        loaded.decode()
        loaded.ack()
    assert canary.exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.binary()
    | st.builds(message, body=JSON.map(body))
    | st.builds(message, headers=st.fixed_dictionaries({"task": JSON, "id": JSON}))
    | st.builds(message, properties=st.fixed_dictionaries(dict.fromkeys(PROPERTIES, JSON)))
)
def test_bytes_of_any_other_message_are_a_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        dispatch_message_in(raw)


def test_a_sent_dispatch_message_arrives_with_its_stage_and_nothing_else(rig: QueueRig) -> None:
    send_stage(celery_app(rig.settings), Service.TRAINING, "stg_sent")
    raw = rig.client.rpop("craft:training")
    assert isinstance(raw, bytes)
    left = json.loads(dispatch_message_in(raw))
    assert json.loads(base64.b64decode(left["body"])) == [[], {"stage_id": "stg_sent"}, {}]
    assert set(left["headers"]) == {"task", "id"}
    assert set(left["properties"]) == {"delivery_info", "delivery_tag", "body_encoding"}


@pytest.mark.parametrize("url", ["redis://host:1/0", "rediss://host:1/0", "redis+socket:///a/socket"])
def test_every_url_of_a_broker_leads_to_it(url: str) -> None:
    with celery_app(Settings(broker_url=url)).connection_for_write() as connection:
        assert connection.get_transport_cls() is DispatchTransport
        assert bool(connection.ssl) == url.startswith("rediss:")


def test_messages_behind_a_busy_worker_stay_in_the_broker_for_another_worker(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        rig.submit("stg_long", do="long")
        busy = rig.coordinator.wait_for("claim").body["owner"]
        rig.submit("stg_next")
        for _ in range(BEATS_WATCHED):
            assert rig.coordinator.wait_for("renew").stage_id == "stg_long"
            assert rig.client.llen(SCORING) == 1
        with running(rig.folder, rig.coordinator.port) as other:
            claim = rig.coordinator.wait_for("claim")
            assert claim.stage_id == "stg_next"
            assert rig.coordinator.wait_for("complete").stage_id == "stg_next"
        # Leases are a process's, not a host's.
        assert claim.body["owner"] != busy
        assert f"-{other.pid}-" in claim.body["owner"]
        assert f"-{rig.worker.pid}-" in busy


def test_a_process_that_got_the_number_of_a_dead_one_is_another_owner() -> None:
    # In a container every worker is process 1.
    own = vars(worker_module)["_owner"]
    assert own("host") != own("host")
