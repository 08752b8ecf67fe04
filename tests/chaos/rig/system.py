"""Every process of the system, owned by the harness: two coordinators, two workers for each queue, the rest once."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from tests.chaos.rig.brokers import Broker
from tests.chaos.rig.databases import DatabaseServer
from tests.chaos.rig.processes import Part, host_environment
from tests.ports import free_ports

from craft.contracts.stages.kinds import Service
from craft.infra.settings.coordinator import CoordinatorSettings
from craft.infra.settings.worker import WorkerSettings

COORDINATORS = 2
WORKERS_OF_A_QUEUE = 2
_START_SECONDS = 120.0


_SHIPPED = CoordinatorSettings()
_SHIPPED_WORKER = WorkerSettings()
_OUTAGE_SECONDS = 66.0
"""With the shipped settings: an outage that workers give up in."""
_MIN_BEAT_SECONDS, _MIN_SWEEP_SECONDS = 0.2, 0.1
"""More often they would take the processors that the jobs need."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The shipped settings, with all times of leases scaled down together, so that a run sees many of them end.

    The cap of attempts is the shipped one. Times that bound work stay as shipped (grace, time-outs of calls and of the
    database): against them the leases are shorter than in earnest, which is harder on the system.
    """

    lease_seconds: float
    beat_seconds: float
    sweep_seconds: float
    resend_seconds: float
    give_up_seconds: float
    outage_seconds: float
    grace_seconds: float = 2.0
    max_attempts: int = _SHIPPED.max_lost_attempts

    @classmethod
    def shipped(cls, *, scale: float) -> "Rules":
        """The shipped times multiplied by `scale`."""
        return cls(
            lease_seconds=_SHIPPED.lease_seconds * scale,
            beat_seconds=max(_MIN_BEAT_SECONDS, _SHIPPED.beat_seconds * scale),
            sweep_seconds=max(_MIN_SWEEP_SECONDS, _SHIPPED.sweep_seconds * scale),
            resend_seconds=_SHIPPED.resend_seconds * scale,
            give_up_seconds=_SHIPPED_WORKER.give_up_seconds * scale,
            outage_seconds=_OUTAGE_SECONDS * scale,
        )

    @property
    def environment(self) -> dict[str, str]:
        """As settings."""
        return {
            "CRAFT_COORDINATOR__LEASE_SECONDS": str(self.lease_seconds),
            "CRAFT_COORDINATOR__BEAT_SECONDS": str(self.beat_seconds),
            "CRAFT_COORDINATOR__SWEEP_SECONDS": str(self.sweep_seconds),
            "CRAFT_COORDINATOR__RESEND_SECONDS": str(self.resend_seconds),
            "CRAFT_COORDINATOR__MIN_FREE_BYTES": "1000000",
            "CRAFT_WORKER__GIVE_UP_SECONDS": str(self.give_up_seconds),
            "CRAFT_WORKER__GRACE_SECONDS": str(self.grace_seconds),
            "CRAFT_TRAINING__CHECKPOINT_SECONDS": "1",
            "CRAFT_TRAINING__THREADS": "1",
            "CRAFT_INFERENCE__THREADS": "1",
            "CRAFT_INFERENCE__QUESTIONS_PER_SHARD": "8",
            "CRAFT_INFERENCE__QUESTIONS_PER_BATCH": "8",
        }


class Worker(Part):
    """A service's Celery worker."""

    @property
    def child(self) -> psutil.Process:
        """The process in which its stages run. Raises LookupError where it has none."""
        for process in self.children():
            if process.ppid() == self.pid:
                return process
        raise LookupError(f"{self.name} has no child.")

    def owns(self, owner: str) -> bool:
        """Whether a lease's owner is this process: its name ends in `-<pid>-<id>`."""
        return self.alive and owner.rsplit("-", 2)[-2:-1] == [str(self.pid)]


@dataclass
class System:
    """All parts by role. Nothing starts before `start`."""

    state: Path
    database: DatabaseServer
    broker: Broker
    gateway: Part
    coordinators: list[Part]
    services: list[Part]
    workers: list[Worker]
    urls: list[str]
    environment: Mapping[str, str]
    deaths: list[str] = field(default_factory=list)
    """Names and last lines of processes that died although nobody had hurt them."""
    _back_at: dict[str, float] = field(default_factory=dict)

    @property
    def parts(self) -> list[Part]:
        """All but the database and the broker."""
        return [*self.coordinators, self.gateway, *self.services, *self.workers]

    @property
    def gateway_url(self) -> str:
        """Where users call."""
        return self.urls[0]

    def start(self) -> None:
        """Start everything and return when every server is ready. Raises TimeoutError with the logs' ends."""
        self.database.start()
        if self.database.can_crash:
            migrate = [sys.executable, "-m", "craft_gateway.migrate"]
            subprocess.run(migrate, check=True, env=dict(self.environment))
        self.broker.start()
        # The first one migrates SQLite.
        self.coordinators[0].start()
        self._until_ready(self.urls[-COORDINATORS:][:1])
        for part in self.parts[1:]:
            part.start()
        self._until_ready(self.urls)

    def tend(self, pause_seconds: Callable[[], float]) -> None:
        """Start again, each after a pause, what is dead."""
        now = time.monotonic()
        for part in self.parts:
            if part.alive:
                continue
            if part.name not in self._back_at:
                if part.spared:
                    self.deaths.append(f"{part.name}: {part.last_lines(1)}")
                self._back_at[part.name] = now + pause_seconds()
            elif now >= self._back_at[part.name]:
                del self._back_at[part.name]
                part.start()

    def stop(self) -> None:
        """End everything."""
        for part in [*self.workers, *self.services, self.gateway, *self.coordinators]:
            part.thaw()
            part.terminate()
        for part in self.parts:
            part.stop(grace_seconds=5.0)
        self.broker.part.stop(grace_seconds=5.0)
        self.broker.client.close()
        self.database.stop()

    def _until_ready(self, urls: list[str]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not all(is_ready(url) for url in urls):
            dead = [part for part in self.parts if part.pid and not part.alive]
            if dead or time.monotonic() > deadline:
                ends = "\n".join(f"{part.name}:\n{part.last_lines()}" for part in dead or self.parts)
                raise TimeoutError(f"The system did not start.\n{ends}")
            time.sleep(0.1)


def build(state: Path, database: DatabaseServer, rules: Rules) -> System:
    """The system over a state folder that holds `models`; `artifacts` may lie on a disk of its own."""
    logs = state / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    names = ["GATEWAY", *(service.name for service in Service), *(f"COORDINATOR {n}" for n in range(COORDINATORS))]
    *ports, broker_port = free_ports(len(names) + 1)
    port_of = dict(zip(names, ports, strict=True))
    broker = Broker(broker_port, state, logs=logs)
    shared = host_environment() | rules.environment
    shared |= {f"CRAFT_{name}__PORT": str(port) for name, port in port_of.items() if " " not in name}
    shared |= {
        "CRAFT_STATE_DIR": str(state),
        "CRAFT_DATABASE_URL": database.url,
        "CRAFT_BROKER_URL": broker.url,
        "CRAFT_COORDINATOR__PORT": str(port_of["COORDINATOR 0"]),
    }

    def module(name: str, module: str, **changes: str) -> Part:
        return Part(name, [sys.executable, "-m", module], environment=shared | changes, logs=logs)

    coordinators = [
        module(
            f"coordinator-{n}", "craft_gateway.coordinator", CRAFT_COORDINATOR__PORT=str(port_of[f"COORDINATOR {n}"])
        )
        for n in range(COORDINATORS)
    ]
    return System(
        state=state,
        database=database,
        broker=broker,
        gateway=module("gateway", "craft_gateway.api"),
        coordinators=coordinators,
        services=[module(f"{service}-api", f"craft_{service}.api") for service in Service],
        workers=list(_workers(shared, logs, [port_of[f"COORDINATOR {n}"] for n in range(COORDINATORS)])),
        urls=[f"http://127.0.0.1:{port}" for port in ports],
        environment=shared,
    )


def _workers(shared: Mapping[str, str], logs: Path, coordinators: list[int]) -> Iterator[Worker]:
    for service in Service:
        for n in range(WORKERS_OF_A_QUEUE):
            url = f"http://127.0.0.1:{coordinators[n % len(coordinators)]}"
            environment = {**shared, "CRAFT_COORDINATOR_URL": url}
            command = [sys.executable, "-m", f"craft_{service}.worker"]
            yield Worker(f"{service}-worker-{n}", command, environment=environment, logs=logs)


def is_ready(url: str) -> bool:
    """Whether the server there says that it can work."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5.0).is_success
    except httpx.TransportError:
        return False
