"""A thousand forged hints change no row: real coordinators, real workers, a real Valkey."""

import random
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import SQLModel, select
from tests.chaos.rig.databases import SqliteFile
from tests.chaos.rig.small import Small, small

from craft.contracts.stages.kinds import Service
from craft.infra.broker.celery import send_stage
from craft.infra.ids import new_id
from craft_gateway.lifecycle.control import JobControl
from craft_gateway.store.tables import Attempt, Event, Job, Stage

FORGED = 1000
TABLES: tuple[type[SQLModel], ...] = (Job, Stage, Event, Attempt)
NO_IDS = (
    "' OR '1'='1",
    "'; DROP TABLE stage; --",
    "../../etc/passwd",
    "stg_1/../stg_2",
    "%2e%2e%2f",
    "http://127.0.0.1/",
    "?x=1#",
    "",
    " ",
    "\x00",
    "\r\nX-Forged: 1",
    "штг_№1",
    "\u202eegats",
    "𝔰𝔱𝔤_1",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "9" * 100,
    "x" * 101,
    "x" * 100_000,
)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Small]:
    with small(tmp_path / "state", SqliteFile(tmp_path / "state")) as made:
        yield made


def stages_of(system: Small, stage_id: str) -> list[str]:
    """All of that stage's job's."""
    with system.look.database.read() as session:
        return list(session.exec(select(Stage.id).where(Stage.job_id == system.stage(stage_id).job_id)))


def rows(system: Small) -> list[dict[str, Any]]:
    """Every row of the truth. A stage that waits is hinted again and again, which is no change of it."""
    with system.look.database.read() as session:
        return [
            row.model_dump(exclude={"dispatch_at"}) for table in TABLES for row in session.exec(select(table)).all()
        ]


def stages_that_nobody_here_may_start(system: Small) -> list[str]:
    """Done ones, cancelled ones, paused ones, and some that wait or are ready for another service's workers."""
    control = JobControl(system.look.database, exists=system.store.holds)
    waiting, ended = system.submit(), system.submit()
    assert system.succeeded(waiting)
    assert system.succeeded(ended)
    control.cancel(system.stage(ended).job_id)
    for worker in system.workers:
        worker.freeze(family=True)
    paused = system.submit()
    control.pause(system.stage(paused).job_id)
    for worker in system.workers:
        worker.thaw()
    return [stage_id for each in (waiting, ended, paused) for stage_id in stages_of(system, each)]


def read(system: Small) -> int:
    """How many messages the workers have done with."""
    logs = "\n".join(worker.last_lines(100_000) for worker in system.workers)
    return logs.count("dispatch_done") + logs.count("message_dropped")


def test_a_thousand_forged_hints_change_nothing_and_a_true_one_is_done_after_them(system: Small) -> None:
    known = stages_that_nobody_here_may_start(system)
    unknown = [new_id("stg") for _ in known]
    forged = list(islice(cycle([*known, *unknown, *NO_IDS]), FORGED))
    random.Random(1).shuffle(forged)
    system.until(lambda: system.broker.client.llen("craft:datasets") == 0 and not system.look.running())
    before, so_far = rows(system), read(system)
    for stage_id in forged:
        send_stage(system.broker.sender, Service.DATASETS, stage_id)
    system.until(lambda: read(system) >= so_far + FORGED)

    assert {row["status"] for row in before if "fence" in row and "status" in row} >= {
        "succeeded",
        "cancelled",
        "pending",
        "ready",
    }
    assert rows(system) == before
    assert all(worker.alive for worker in system.workers)
    assert system.succeeded(system.submit())
