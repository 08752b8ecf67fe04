"""Checks that polls of hundreds of queued jobs are answered quickly while workers run, and that memory stays flat.

`make bench-gateway ARGS="--jobs 500 --polls 300 --seconds 60"` runs a real gateway, coordinator, datasets service
and Valkey on a new SQLite file. They share two cores with the workers and the client. The exit code is 1 where a limit
is exceeded.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from tests.bench.gateway_poller import Connections, Latencies, percentile, poll, request_repeatedly
from tests.bench.gateway_workers import HEARTBEATS_OF_A_STAGE, THREADS_OF_A_QUEUE, Workplace, working
from tests.chaos.rig.processes import Part, host_environment
from tests.chaos.rig.system import is_ready
from tests.ports import free_ports
from tests.services.gateway.rigs.public_rig import MODEL, model_folder, rows
from tests.tokens import WORKER_TOKEN

from craft.contracts.stages.kinds import Service
from craft.infra.settings.settings import Settings
from craft_cli.stack import processes

CORES = 2
P99_MILLISECONDS = 100.0
MAX_GROWTH = 0.20
MIN_OF_RATE = 0.99
_WARM = 0.25
"""The share of the run after which memory should no longer grow."""
_WATCHED = ("gateway", "coordinator")
_PARTS = ("valkey", "coordinator", "gateway", "datasets-api")
_LISTENING = ("GATEWAY", "COORDINATOR", "DATASETS")
_START_SECONDS = 60.0
_LISTS = ("/craft/jobs?limit=20", "/craft/queue")
_LIST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Load:
    """The load on the gateway."""

    jobs: int
    polls: float
    seconds: float
    seed: int


@dataclass(frozen=True, slots=True)
class Running:
    """The processes under load. `ports` are by the settings' names; of several gateways, only the first is there."""

    parts: dict[str, Part]
    ports: dict[str, int]
    state: Path
    gateways: tuple[int, ...]
    """The ports of all gateways."""

    @property
    def place(self) -> Workplace:
        """The addresses and folders for its workers."""
        settings = Settings(state_dir=self.state)
        return Workplace(
            coordinator_url=f"http://127.0.0.1:{self.ports['COORDINATOR']}",
            token=WORKER_TOKEN.get_secret_value(),
            database=self.state / "craft.db",
            artifacts=settings.resolved_artifacts_dir,
        )

    def memory(self) -> dict[str, float]:
        """The resident MiB of each watched process."""
        return {name: psutil.Process(self.parts[name].pid).memory_info().rss / 2**20 for name in _WATCHED}

    def cpu_seconds(self) -> dict[str, float]:
        """The processor seconds that each process has used."""
        times = {name: psutil.Process(part.pid).cpu_times() for name, part in self.parts.items()}
        return {name: used.user + used.system for name, used in times.items()}


@dataclass
class GatewayMeasurement:
    """The results of a run."""

    polls: Latencies
    lists: dict[str, Latencies]
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    stages: int = 0
    heartbeats: int = 0
    worker_faults: int = 0
    busy_elsewhere: float = 0.0
    """The share of the machine's processor time that other processes used."""

    def growth(self, name: str) -> float:
        """The growth of a process's memory after warming up, as a share."""
        return self.memory["end"][name] / self.memory["warm"][name] - 1.0

    def verdicts(self, load: Load) -> Iterator[tuple[bool, str]]:
        """For each limit: True where it was kept, and a text with the measured value."""
        p99 = percentile(self.polls.milliseconds, 99)
        rate = len(self.polls.milliseconds) / self.polls.seconds
        errors = self.polls.errors + sum(latencies.errors for latencies in self.lists.values())
        yield p99 < P99_MILLISECONDS, f"p99 {p99:.1f} ms, below {P99_MILLISECONDS:.0f}"
        yield rate >= MIN_OF_RATE * load.polls, f"{rate:.1f} polls/s of {load.polls:.0f}"
        yield errors == 0, f"{errors} errors"
        yield self.stages > 0, f"{self.stages} stages done meanwhile"
        for name in _WATCHED:
            growth = self.growth(name)
            yield (
                growth <= MAX_GROWTH,
                f"memory of the {name} {growth:+.1%} after warming up, at most {MAX_GROWTH:.0%}",
            )


@contextmanager
def running(state: Path, *, gateways: int = 1, **settings: str) -> Iterator[Running]:
    """Run the processes on this state folder and free ports, with further settings as environment variables."""
    free = free_ports(len(_LISTENING) + gateways - 1)
    ports, further = dict(zip(_LISTENING, free, strict=False)), free[len(_LISTENING) :]
    environment = host_environment() | {f"CRAFT_{name}__PORT": str(port) for name, port in ports.items()}
    environment |= {"CRAFT_STATE_DIR": str(state), "CRAFT_COORDINATOR__BEAT_SECONDS": "1"} | settings
    (state / "logs").mkdir()
    commands = {spec.name: spec.command for spec in processes(Settings(state_dir=state))}
    parts = {name: Part(name, commands[name], environment=environment, logs=state / "logs") for name in _PARTS}
    for number, port in enumerate(further, start=2):
        name, own = f"gateway-{number}", {"CRAFT_GATEWAY__PORT": str(port)}
        parts[name] = Part(name, commands["gateway"], environment=environment | own, logs=state / "logs")
    try:
        for part in parts.values():
            part.start()
        deadline = time.monotonic() + _START_SECONDS
        while not all(is_ready(f"http://127.0.0.1:{port}") for port in (*ports.values(), *further)):
            if time.monotonic() > deadline or not all(part.alive for part in parts.values()):
                raise SystemExit("\n".join(f"{name}:\n{part.last_lines()}" for name, part in parts.items()))
            time.sleep(0.1)
        yield Running(parts, ports, state, (ports["GATEWAY"], *further))
    finally:
        for part in reversed(parts.values()):
            part.stop(grace_seconds=10)


def submit(port: int, count: int, *, key: str | None = None) -> list[str]:
    """Submit so many jobs on one dataset, four at a time. Their seeds differ, so that no job reuses results."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    base_url = f"http://127.0.0.1:{port}/craft"
    with httpx.Client(base_url=base_url, headers=headers, timeout=60.0) as client, ThreadPoolExecutor(4) as pool:
        dataset = client.post("/datasets", json={"rows": rows()}).raise_for_status().json()["id"]

        def one(seed: int) -> str:
            body: dict[str, Any] = {"base_model": {"id": MODEL}, "dataset": {"id": dataset}, "seed": seed}
            answer = client.post("/jobs", json={**body, "strategies": ["craft"], "rehearsal": {"size": 60}})
            return str(answer.raise_for_status().json()["id"])

        return list(pool.map(one, range(count)))


async def loaded(system: Running, job_ids: Sequence[str], load: Load) -> GatewayMeasurement:
    """Poll for the whole time, request the lists now and then, and sample the memory."""
    connections = Connections([system.ports["GATEWAY"]])
    memory = {"start": system.memory()}

    async def remember(moment: str, share: float) -> None:
        await asyncio.sleep(load.seconds * share)
        memory[moment] = system.memory()

    before = system.cpu_seconds()
    async with asyncio.TaskGroup() as group:
        lists = {
            path: group.create_task(
                request_repeatedly(connections, path, every_seconds=_LIST_SECONDS, seconds=load.seconds)
            )
            for path in _LISTS
        }
        group.create_task(remember("warm", _WARM))
        group.create_task(remember("middle", 0.5))
        polls = await poll(connections, job_ids, rate=load.polls, seconds=load.seconds, seed=load.seed)
    memory["end"] = system.memory()
    used = {name: seconds - before[name] for name, seconds in system.cpu_seconds().items()}
    connections.close()
    return GatewayMeasurement(polls, {path: task.result() for path, task in lists.items()}, memory, used)


def measure(load: Load) -> GatewayMeasurement:
    """Submit the jobs, start the workers, and poll."""
    with tempfile.TemporaryDirectory(prefix="craft-bench-") as folder:
        state = Path(folder)
        model_folder(state / "models")
        with running(state) as system:
            began = time.monotonic()
            job_ids = submit(system.ports["GATEWAY"], load.jobs)
            seconds = time.monotonic() - began
            print(f"{load.jobs} jobs submitted in {seconds:.1f} s: {load.jobs / seconds:.0f} a second", flush=True)
            with working(system.place) as counts:
                busy, began = _busy_elsewhere(), time.monotonic()
                done, heartbeats = counts.stages.value, counts.heartbeats.value
                measured = asyncio.run(loaded(system, job_ids, load))
                elapsed = (time.monotonic() - began) * (os.cpu_count() or 1)
                measured.busy_elsewhere = max(0.0, (_busy_elsewhere() - busy) / elapsed)
                measured.stages, measured.heartbeats = counts.stages.value - done, counts.heartbeats.value - heartbeats
                measured.worker_faults = counts.faults.value
    return measured


def _busy_elsewhere() -> float:
    """The processor seconds that other processes than this one and its children have used."""
    me = psutil.Process()
    ours = sum(sum(process.cpu_times()[:2]) for process in (me, *me.children(recursive=True)))
    whole = psutil.cpu_times()
    return float(sum(whole) - whole.idle - getattr(whole, "iowait", 0.0) - ours)


def show(measured: GatewayMeasurement, load: Load) -> None:
    """Print the results."""
    polls = measured.polls
    count = max(1, len(polls.milliseconds))
    threads = THREADS_OF_A_QUEUE * len(Service)
    print(
        f"{count:,} polls sent in {polls.seconds:.1f} s: {count / polls.seconds:.1f} a second; "
        f"{polls.conditional / count:.0%} with If-None-Match, {polls.statuses.get(304, 0) / count:.0%} answered 304; "
        f"statuses {polls.statuses}"
    )
    print(f"{'milliseconds':<34}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}{'count':>9}")
    late = Latencies(milliseconds=polls.late_milliseconds)
    rows_shown = {"GET /craft/jobs/{id}": polls, "  of it the client's own delay": late}
    rows_shown |= {f"GET {path}": latencies for path, latencies in measured.lists.items()}
    for name, latencies in rows_shown.items():
        values = "".join(f"{percentile(latencies.milliseconds, percent):>9.1f}" for percent in (50, 95, 99, 100))
        print(f"{name:<34}{values}{len(latencies.milliseconds):>9,}")
    print(
        f"{threads} worker threads with {HEARTBEATS_OF_A_STAGE} heartbeats a stage did {measured.stages} stages and "
        f"{measured.heartbeats} heartbeats, {measured.worker_faults} faults; one process computed at nice 10"
    )
    print(f"{'MiB resident':<34}{'start':>9}{'warm':>9}{'middle':>9}{'end':>9}")
    for name in _WATCHED:
        values = "".join(f"{measured.memory[moment][name]:>9.1f}" for moment in ("start", "warm", "middle", "end"))
        print(f"{name:<34}{values}")
    used = ", ".join(f"{name} {seconds / load.seconds:.0%}" for name, seconds in measured.cpu_seconds.items())
    print(f"of one core: {used}; of the machine {measured.busy_elsewhere:.0%} went to processes that are not ours")


def main() -> int:
    """Measure, print the results, and compare them with the limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--polls", type=float, default=300.0, help="polls for each second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    load = Load(arguments.jobs, arguments.polls, arguments.seconds, arguments.seed)
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    os.sched_setaffinity(0, cores)
    print(f"{len(cores)} cores, load average {os.getloadavg()[0]:.1f} before, seed {load.seed}", flush=True)
    measured = measure(load)
    show(measured, load)
    verdicts = list(measured.verdicts(load))
    for kept, text in verdicts:
        print(f"{'ok  ' if kept else 'FAIL'} {text}")
    return 0 if all(kept for kept, _ in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
