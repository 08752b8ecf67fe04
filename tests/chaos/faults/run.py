"""One run: the system starts, jobs come, faults come, everything is let end, and then what must hold is looked at."""

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.faults import outcome
from tests.chaos.faults.faults import INJECT, skew_library
from tests.chaos.faults.invariants import Violation, violations
from tests.chaos.faults.schedule import Fault, schedule
from tests.chaos.rig.databases import DatabaseServer, PostgresServer, SqliteFile
from tests.chaos.rig.disks import SmallDisk
from tests.chaos.rig.jobs import Submitter, store_facts
from tests.chaos.rig.look import Look
from tests.chaos.rig.scene import Scene
from tests.chaos.rig.stored import stored_violations
from tests.chaos.rig.system import Rules, build
from tests.fetched_models import MODELS
from tests.tiny_model import made_up_facts, make_tiny_model

_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
_FACTS = 60
_DISK_MEGABYTES = 256
_PATIENCE_SECONDS = 300.0
"""How long open jobs may take once nobody hurts the system any more; afterwards they are lost."""
SCALE = 1 / 9
RULES = Rules.shipped(scale=SCALE)
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What to run. `jobs` is the least number; while faults remain, further ones keep `under_way` open.

    `keep` keeps the run's folder where nothing was wrong too.
    """

    seed: int
    faults: int
    jobs: int
    database: str
    mean_seconds: float
    under_way: int = 3
    kinds: tuple[Fault, ...] = tuple(Fault)
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """`rows` as the table shows them, `failures` a line for each failed job; `violations` must be empty."""

    rows: list[outcome.Row]
    accepted: int
    violations: list[Violation]
    failures: list[str]
    deaths: list[str]
    other_bytes: int
    seconds: float

    @property
    def lost(self) -> int:
        """Jobs that did not succeed through no fault of their own."""
        return self.rows[-1].lost


def run(options: Options, say: Say) -> Result:
    """One run in a folder of its own, which is kept where something was wrong."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="craft-chaos-"))
    # Others than root must get at PostgreSQL's part.
    folder.chmod(0o755)
    state = folder / "state"
    with ExitStack() as stack:
        scene = _started(stack, options, folder)
        say(f"{options.database}: started after {time.monotonic() - began:.0f} s, logs in {state / 'logs'}")
        gateway = scene.system.gateway_url
        facts = made_up_facts(_FACTS, seed=1)
        submitter = Submitter(gateway, store_facts(gateway, facts, folder), under_way=options.under_way)
        stack.callback(submitter.close)
        submitter.start()
        _hurt(scene, submitter, options, say)
        _let_end(scene, submitter, say)
        found = _found(scene, submitter, state / "artifacts")
        ended = outcome.Ended.read(scene.look.database)
        made = outcome.rows(ended, scene.done, found, accepted=submitter.accepted)
        failures = outcome.failure_lines(ended, scene.done)
        if found and scene.disk.mounted:
            shutil.copytree(state / "artifacts", folder / "artifacts")
    if not (found or options.keep):
        shutil.rmtree(folder, ignore_errors=True)
    return Result(
        rows=made,
        accepted=len(submitter.accepted),
        violations=found,
        failures=failures,
        deaths=scene.system.deaths,
        other_bytes=ended.other_bytes,
        seconds=time.monotonic() - began,
    )


def _started(stack: ExitStack, options: Options, folder: Path) -> Scene:
    """The running system, which ends with the stack."""
    state = folder / "state"
    _make_models(state / "models")
    database = _server(options.database, folder)
    disk = stack.enter_context(SmallDisk(state / "artifacts", megabytes=_DISK_MEGABYTES))
    system = build(state, database, RULES)
    stack.callback(system.stop)
    system.start()
    look = Look(database.url)
    stack.callback(look.close)
    rng = random.Random(f"{options.database} {options.seed}")
    return Scene(system=system, look=look, rng=rng, rules=RULES, disk=disk, skew=skew_library())


def _make_models(models: Path) -> None:
    make_tiny_model(models / "tiny", made_up_facts(_FACTS, seed=1), seed=1)
    # A link would lead out of the models folder, which the service refuses.
    shutil.copytree(MODELS / _EMBEDDER, models / _EMBEDDER)


def _server(database: str, folder: Path) -> DatabaseServer:
    if database == "sqlite":
        return SqliteFile(folder / "state")
    logs = folder / "state" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    return PostgresServer(folder / "postgresql", root=os.geteuid() == 0, logs=logs)


def possible(kinds: tuple[Fault, ...], scene: Scene, say: Say) -> list[Fault]:
    """The kinds that this machine and database allow; says which not, and why."""
    reasons = {}
    if not scene.disk.mounted:
        reasons[Fault.DISK_FULL] = scene.disk.reason
    if scene.skew is None:
        reasons[Fault.CLOCK_SKEWED] = "libfaketime is not installed (Debian: apt install faketime)"
    if not scene.system.database.can_crash:
        reasons[Fault.DATABASE_CRASHED] = "SQLite has no server"
    for fault, reason in reasons.items():
        say(f"left out: {fault.value}: {reason}")
    return [kind for kind in kinds if kind not in reasons]


def _hurt(scene: Scene, submitter: Submitter, options: Options, say: Say) -> None:
    kinds = possible(options.kinds, scene, say)
    # A source of its own: how often others are drawn from depends on the system's pace.
    rng = random.Random(f"{options.database} {options.seed} schedule")
    began = time.monotonic()
    for moment in schedule(rng, kinds, count=options.faults, mean_seconds=options.mean_seconds):
        scene.run_for(moment.pause_seconds)
        done = scene.note(moment.fault, INJECT[moment.fault])
        ended = len(submitter.accepted) - len(submitter.unfinished)
        so_far = f"{ended} of {len(submitter.accepted)} jobs have ended"
        say(f"{time.monotonic() - began:6.1f} s  {done.fault.value}: {done.hit.target}  ({so_far})")
    until = time.monotonic() + _PATIENCE_SECONDS
    while len(submitter.accepted) < options.jobs and time.monotonic() < until:
        scene.tick()
    submitter.enough()


def _let_end(scene: Scene, submitter: Submitter, say: Say) -> None:
    scene.calm()
    say("no more faults; what is under way may end")
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until and (submitter.unfinished or not scene.look.settled()):
        scene.tick()


def _found(scene: Scene, submitter: Submitter, artifacts: Path) -> list[Violation]:
    with scene.look.database.read() as session:
        found = violations(
            session,
            accepted=submitter.accepted,
            living=lambda owner: any(worker.owns(owner) for worker in scene.system.workers),
            most=scene.rules.max_attempts,
        )
    found += stored_violations(scene.look.database, artifacts)
    answers = "the gateway answers, or says when to come back"
    return found + [Violation(answers, "", f"{times} times {wrong}") for wrong, times in submitter.wrong.items()]
