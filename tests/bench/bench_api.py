"""Measures the gateway under three loads at once: conditional polls, submissions, and readers of event streams.

`make bench-api ARGS="--gateways 2 --polls 1500 --posts 100 --readers 200 --seconds 20"` runs each load alone and then
all together, with keys, on a new SQLite file and two cores that client and servers share. A gateway uses one core, so
two gateways are the default; each gets half of the connections. Latencies count from the moment a request was due.
"""

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from tests.bench.bench_gateway import CORES, Running, running, submit
from tests.bench.gateway_poller import Connection, Connections, Latencies, at_rate, percentile, poll
from tests.services.gateway.rigs.public_rig import MODEL, model_folder

_KEY = "an-operator-key-of-the-bench-0123456789"
_SETTINGS = {
    "CRAFT_GATEWAY__OPERATOR_KEY": _KEY,
    "CRAFT_GATEWAY__REQUESTS_PER_SECOND": "1e6",
    "CRAFT_GATEWAY__REQUESTS_AT_ONCE": "1000000",
}
_POLLED = 50
_SHOWN_SHARE = 0.01
_JOB = {"strategies": ["craft"], "rehearsal": {"size": 60}}


@dataclass(frozen=True, slots=True)
class MixedLoad:
    """The requests for each second, the readers, and the duration."""

    polls: float
    posts: float
    readers: int
    seconds: float


async def posted(connections: Connections, dataset: str, load: MixedLoad) -> Latencies:
    """Submit jobs of one dataset whose seeds differ."""
    latencies = Latencies()
    now = asyncio.get_running_loop().time
    seeds = iter(range(10_000, 2**31))

    async def one(due: float) -> None:
        body = {"base_model": {"id": MODEL}, "dataset": {"id": dataset}, "seed": next(seeds), **_JOB}
        sent = now()
        answer = await connections.post("/craft/jobs", json.dumps(body).encode())
        latencies.note(answer, due=due, sent=sent, done=now())

    latencies.seconds = await at_rate(load.posts, load.seconds, one)
    return latencies


async def read(ports: Sequence[int], job_ids: Sequence[str], count: int) -> list[asyncio.Task[int]]:
    """Start so many readers of event streams."""
    connections = [await Connection.open(ports[number % len(ports)], _KEY) for number in range(count)]
    return [
        asyncio.create_task(connection.events(f"/craft/jobs/{job_ids[number % len(job_ids)]}/events"))
        for number, connection in enumerate(connections)
    ]


async def loaded(system: Running, job_ids: Sequence[str], dataset: str, load: MixedLoad) -> None:
    """Run the load, and print a line for each kind of request."""
    connections = Connections(system.gateways, _KEY)
    readers = await read(system.gateways, job_ids, load.readers)
    # A polling caller has the ETag of an earlier poll.
    tags = {job_id: (await connections.get(f"/craft/jobs/{job_id}")).etag for job_id in job_ids}
    before = system.cpu_seconds()
    polls, posts = await asyncio.gather(
        poll(connections, job_ids, rate=load.polls, seconds=load.seconds, seed=1, tags=tags),
        posted(connections, dataset, load),
    )
    after = system.cpu_seconds()
    used = {name: (after[name] - before[name]) / load.seconds for name in after}
    for reader in readers:
        reader.cancel()
    streamed = await asyncio.gather(*readers)
    connections.close()
    for name, latencies in (("polls", polls), ("submissions", posts)):
        if latencies.milliseconds:
            values = " ".join(f"p{p} {percentile(latencies.milliseconds, p):.1f}" for p in (50, 95, 99))
            rate = len(latencies.milliseconds) / latencies.seconds
            print(f"  {name:<12} {rate:8.1f} a second  {values} ms  statuses {latencies.statuses}")
    if streamed:
        print(f"  readers      {len(streamed)} streams, {min(streamed):,} to {max(streamed):,} bytes each")
    cores = ", ".join(f"{name} {share:.0%}" for name, share in used.items() if share >= _SHOWN_SHARE)
    print(f"  of one core  {cores}; gateway {system.memory()['gateway']:.0f} MiB", flush=True)


def main() -> None:
    """Run each load alone, then all at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateways", type=int, default=CORES)
    parser.add_argument("--polls", type=float, default=1500.0)
    parser.add_argument("--posts", type=float, default=100.0)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    whole = MixedLoad(arguments.polls, arguments.posts, arguments.readers, arguments.seconds)
    loads = {
        "polls alone": MixedLoad(whole.polls, 0, 0, whole.seconds),
        "submissions alone": MixedLoad(0, whole.posts, 0, whole.seconds),
        "all at once": whole,
    }
    for name, load in loads.items():
        with tempfile.TemporaryDirectory(prefix="craft-bench-") as folder:
            state = Path(folder)
            model_folder(state / "models")
            with running(state, gateways=arguments.gateways, **_SETTINGS) as system:
                port = system.ports["GATEWAY"]
                job_ids = submit(port, _POLLED, key=_KEY)
                headers = {"Authorization": f"Bearer {_KEY}"}
                datasets = httpx.get(f"http://127.0.0.1:{port}/craft/datasets", headers=headers).json()
                print(name, flush=True)
                asyncio.run(loaded(system, job_ids, datasets["data"][0]["id"], load))


if __name__ == "__main__":
    main()
