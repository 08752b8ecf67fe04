"""Extreme values, then schemathesis, against a real gateway: python -m tests.fuzz --help.

First each member of each request with values at the edge (`tests/fuzz/values.py`). Then schemathesis with a key and
without one: every phase (examples, coverage, fuzzing, links) and every check but one. Exit code 1 at a failure, at any
5xx, or where fewer requests were sent than asked for.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from tests.bench.bench_gateway import Running, running
from tests.fuzz.extremes import Failure, chosen, requests, sent
from tests.fuzz.known import EXAMPLE_MODEL, PATHS, configuration, made
from tests.services.gateway.rigs.public_rig import MODEL, model_folder

_KEY = "an-operator-key-of-the-fuzzer-0123456789"
_SETTINGS = {
    "CRAFT_GATEWAY__OPERATOR_KEY": _KEY,
    "CRAFT_GATEWAY__REQUESTS_PER_SECOND": "1e6",
    "CRAFT_GATEWAY__REQUESTS_AT_ONCE": "1000000",
}


@dataclass(frozen=True, slots=True)
class Options:
    """How much is sent: `examples` is for each operation and phase, `requests` the least of a whole run.

    An answer that takes longer than `answer_seconds` is a failure.
    """

    program: Path
    seed: int
    examples: int
    requests: int
    answer_seconds: float
    extremes: int
    """Requests with an extreme value, of all that there are."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run. `broken` names each route and method that answered 5xx."""

    requests: int
    broken: Sequence[str]
    failed: bool
    seconds: float
    memory: tuple[float, float]
    """MiB of the gateway before and after."""


def fuzz(system: Running, options: Options, *, key: str | None) -> Outcome:
    """One run on a fresh system; what schemathesis says is printed as it comes."""
    url = f"http://127.0.0.1:{system.ports['GATEWAY']}"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {_KEY}"}, timeout=60.0) as client:
        settings = system.state / "schemathesis.toml"
        settings.write_text(configuration(made(client, system.place)))
        before, memory = _answered(client), system.memory()["gateway"]
        began = time.monotonic()
        ended = subprocess.run(_command(url, settings, options, key=key), cwd=system.state, check=False)
        seconds = time.monotonic() - began
        after = _answered(client)
    new = {each: count - before.get(each, 0) for each, count in after.items() if count > before.get(each, 0)}
    # The first reading of the counters is in the second.
    requests = sum(new.values()) - 1
    broken = [f"{status} {count} times by {route}" for (route, status), count in new.items() if status >= "500"]
    return Outcome(requests, broken, ended.returncode != 0, seconds, (memory, system.memory()["gateway"]))


def at_the_edge(system: Running, options: Options) -> Iterator[tuple[bool, str]]:
    """Requests with one extreme value each, against a fresh system; each failure is printed as it comes."""
    url = f"http://127.0.0.1:{system.ports['GATEWAY']}"
    limits = httpx.Timeout(options.answer_seconds)
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {_KEY}"}, timeout=limits) as client:
        known = made(client, system.place)
        ids = {name: str(known[kind][0]) for name, kind in PATHS.items()}
        document = client.get("/openapi.json").raise_for_status().json()
        every = list(requests(document, ids, MODEL, str(known["datasets"][0])))
        began = time.monotonic()
        failures: list[Failure] = []
        for request in chosen(every, options.extremes, options.seed):
            if (failure := sent(client, request)) is not None:
                failures.append(failure)
                print(failure, flush=True)
        seconds = time.monotonic() - began
    count = min(options.extremes, len(every))
    yield count > 0, f"at the edge: {count:,} of {len(every):,} requests in {seconds:.0f} s"
    yield not failures, f"at the edge: {len(failures)} were answered 5xx or not at all"


def _command(url: str, settings: Path, options: Options, *, key: str | None) -> list[str]:
    who = ["-H", f"Authorization: Bearer {key}"] if key else []
    return [
        *(str(options.program), "--config-file", str(settings), "run", f"{url}/openapi.json", *who),
        # For positive_data_acceptance a documented 422, such as for a model that is not there, is a failure.
        *("-c", "all", "--exclude-checks", "positive_data_acceptance"),
        *("--max-examples", str(options.examples), "--seed", str(options.seed), "--generation-database", "none"),
        *("--workers", "1", "--continue-on-failure", "--no-color"),
        *("--request-timeout", str(options.answer_seconds), "--max-response-time", str(options.answer_seconds)),
    ]


def _answered(client: httpx.Client) -> Mapping[tuple[str, str], int]:
    """Requests answered so far, by method with route, and status."""
    counts: dict[tuple[str, str], int] = {}
    for family in text_string_to_metric_families(client.get("/metrics").raise_for_status().text):
        for name, labels, value, *_ in family.samples:
            if name == "craft_http_requests_total":
                each = f"{labels['method']} {labels['route']}", labels["status"]
                counts[each] = counts.get(each, 0) + int(value)
    return counts


def verdicts(name: str, outcome: Outcome, options: Options) -> Iterator[tuple[bool, str]]:
    """Each thing that must hold: whether it did, and what was seen."""
    rate = outcome.requests / outcome.seconds
    enough = outcome.requests >= options.requests
    yield enough, f"{name}: {outcome.requests:,} requests in {outcome.seconds:.0f} s ({rate:.0f} a second)"
    yield not outcome.broken, f"{name}: {len(outcome.broken)} routes answered 5xx {'; '.join(outcome.broken)}".rstrip()
    yield not outcome.failed, f"{name}: {'failures, told above' if outcome.failed else 'no check failed'}"
    start, end = outcome.memory
    yield True, f"{name}: the gateway took {start:.0f} MiB before and {end:.0f} MiB after"


@contextmanager
def stack() -> Iterator[Running]:
    """A fresh system with the models that the requests name."""
    with tempfile.TemporaryDirectory(prefix="craft-fuzz-") as folder:
        state = Path(folder)
        for model in (MODEL, EXAMPLE_MODEL):
            model_folder(state / "models", model)
        with running(state, gateways=1, **_SETTINGS) as system:
            yield system


def main() -> int:
    """Run both, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=Path(".craft/fuzz/bin/schemathesis"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=300, help="of each operation and phase; 0: none")
    parser.add_argument("--extremes", type=int, default=20_000, help="requests with one extreme value, by chance")
    parser.add_argument("--requests", type=int, default=20_000, help="at least so many in each run")
    # A valid `wait` lasts up to a minute; schemathesis' own limit is 10 s. Speed is the benches' matter.
    parser.add_argument("--answer-seconds", type=float, default=90.0, help="longer where others stop this machine")
    given = parser.parse_args()
    options = Options(
        given.program.absolute(), given.seed, given.examples, given.requests, given.answer_seconds, given.extremes
    )
    told: list[tuple[bool, str]] = []
    with stack() as system:
        told += at_the_edge(system, options)
    for name, key in (("with a key", _KEY), ("without a key", None)) if options.examples else ():
        with stack() as system:
            told += verdicts(name, fuzz(system, options, key=key), options)
    print(f"\nseed {options.seed}, {options.examples} examples of each operation and phase")
    for kept, seen in told:
        print(f"{'ok  ' if kept else 'FAIL'} {seen}", flush=True)
    return 0 if all(kept for kept, _ in told) else 1


if __name__ == "__main__":
    # So that a run that is stopped ends the gateway too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main())
