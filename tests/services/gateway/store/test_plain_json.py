"""No NUL character gets into a JSON column, on SQLite as on PostgreSQL, which could not read it back."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.services.gateway.rigs.world import World

from craft.contracts.spec.jobs import JobStatus
from craft.core.questions import Task
from craft.errors import RequestInvalid
from craft_gateway.store.tables import Artifact, Job

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def a_job(**values: Any) -> Job:
    given = {"resolved": {"spec": {}}, "status": JobStatus.QUEUED, "created_at": NOON, "updated_at": NOON, **values}
    return Job(id="cjob_1", task=Task.OPEN_ENDED, team="default", **given)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (
            {"resolved": {"spec": {"prompts": {"extra_refusals": ["fine", "no\0idea"]}}}},
            "job.spec.prompts.extra_refusals.1",
        ),
        ({"resolved": {"spec": {"name\0": 1}}}, "job.spec.name\N{REPLACEMENT CHARACTER}"),
        ({"labels": {"a": "b", "c": "\0"}}, "labels.c"),
    ],
)
def test_a_callers_nul_is_refused_by_name(world: World, values: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestInvalid, match="NUL") as refused, world.database.write() as session:
        session.add(a_job(**values))
    assert refused.value.param == field
    with world.database.read() as session:
        assert session.get(Job, "cjob_1") is None


def test_a_nul_in_what_the_system_writes_becomes_a_replacement_character(world: World) -> None:
    with world.database.write() as session:
        session.add(a_job(error={"message": "a\0b", "lines": ["\0"], "\0": 1}))
        session.add(Artifact(key="a" * 64, digest="b" * 64, manifest={"kind": "\0"}, created_at=NOON))
    with world.database.read() as session:
        assert session.get_one(Job, "cjob_1").error == {"message": "a\ufffdb", "lines": ["\ufffd"], "\ufffd": 1}
        assert session.get_one(Artifact, "a" * 64).manifest == {"kind": "\ufffd"}


def test_json_without_nul_comes_back_as_it_was(world: World) -> None:
    kept = {"text": "größe \\u0000 \ufffd", "number": 1.5, "list": [None, True, {"deep": []}]}
    with world.database.write() as session:
        session.add(a_job(error=kept))
    with world.database.read() as session:
        assert session.get_one(Job, "cjob_1").error == kept
