"""Jobs that are submitted at once: whatever becomes of the others, each caller is answered about their own."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col
from tests.services.gateway.rigs.public_rig import UNKNOWN_DATASET, Rig, body, open_rig, rows

from craft.contracts.public.accounts import TeamSettings
from craft.contracts.public.jobs import JobView
from craft.contracts.services.datasets import Reading
from craft.contracts.spec.jobs import JobSpec
from craft.errors import IdempotencyConflict, RequestInvalid
from craft_gateway.access.long_work import long_work
from craft_gateway.jobs.batching import BatchedSubmissions
from craft_gateway.jobs.submission import Submission
from craft_gateway.lifecycle.creation import Origin
from craft_gateway.store.tables import Job

TEAMS = ("a", "b")


class Line:
    """A line of submissions that notes which were made together, and a dataset of each team."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.batches: list[int] = []
        for team in TEAMS:
            rig.teams.put(team, TeamSettings())
        self.datasets = {
            team: rig.registry.add_rows(rows(), Reading(), name=None, team=team, param="dataset.rows").id
            for team in TEAMS
        }
        submissions = rig.submissions
        submit_many = submissions.submit_many

        def noted(asked: Sequence[Submission]) -> Any:
            self.batches.append(len(asked))
            return submit_many(asked)

        submissions.submit_many = noted  # type: ignore[method-assign, assignment] # the real one, counted
        self.line = BatchedSubmissions(submissions, slow=long_work().checks)
        # Of a model and rows that were not seen before both are read first, each request by itself.
        self.submitted(*(self.asked(team, seed=0) for team in TEAMS))
        self.batches.clear()

    def asked(self, team: str, *, key: str | None = None, actor: str | None = None, **changes: Any) -> Submission:
        spec = body(**{"dataset": {"id": self.datasets[team]}, **changes})
        return Submission(JobSpec.model_validate(spec), key, Origin(team, actor))

    def submitted(self, *asked: Submission) -> list[JobView | BaseException]:
        async def at_once() -> list[JobView | BaseException]:
            return await asyncio.gather(*(self.line.submit(one) for one in asked), return_exceptions=True)

        return asyncio.run(at_once())


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with open_rig(tmp_path) as rig:
        yield Line(rig)


def test_each_is_answered_about_their_own_job(line: Line) -> None:
    asked = [line.asked(TEAMS[seed % 2], seed=seed, actor=f"key {seed}") for seed in range(1, 9)]
    views = line.submitted(*asked)
    assert line.batches == [8]
    assert len({view.id for view in views if isinstance(view, JobView)}) == 8
    for one, view in zip(asked, views, strict=True):
        assert isinstance(view, JobView)
        assert (view.team, view.resolved.seed, view.resolved.dataset.id) == (
            one.origin.team,
            one.spec.seed,
            one.spec.dataset.id,
        )
        events = line.rig.get(f"/craft/audit?subject={view.id}", headers={"Craft-Team": view.team}).json()["data"]
        assert {event["actor"] for event in events} == {one.origin.actor}


def test_what_becomes_of_one_becomes_of_no_other(line: Line) -> None:
    [before] = line.submitted(line.asked("a", key="before", seed=10))
    assert isinstance(before, JobView)
    line.batches.clear()
    good, unknown, foreign, again, other, first, second, conflict, last = line.submitted(
        line.asked("a", seed=11),
        line.asked("a", dataset={"id": UNKNOWN_DATASET}),
        line.asked("a", dataset={"id": line.datasets["b"]}),
        line.asked("a", key="before", seed=10),
        line.asked("b", key="before", seed=10),
        line.asked("a", key="twice", seed=12),
        line.asked("a", key="twice", seed=12),
        line.asked("a", key="twice", seed=13),
        line.asked("b", seed=14),
    )
    # Rows that nobody has looked at yet are looked at first, by themselves.
    assert line.batches == [1, 8]
    for refused in (unknown, foreign):
        assert isinstance(refused, RequestInvalid)
        assert "There is no dataset" in refused.message
    assert isinstance(conflict, IdempotencyConflict)
    made = [view for view in (good, again, other, first, second, last) if isinstance(view, JobView)]
    assert [(view.team, view.resolved.seed) for view in made] == [
        *(("a", 11), ("a", 10), ("b", 10), ("a", 12), ("a", 12), ("b", 14)),
    ]
    assert made[1].id == before.id
    assert made[3].id == made[4].id
    assert len({view.id for view in made}) == 5
    # In the order in which they were asked for.
    assert made[0].id < made[2].id < made[3].id < made[5].id


def test_a_job_that_cannot_be_shown_hides_no_other(line: Line) -> None:
    [before] = line.submitted(line.asked("a", key="before", seed=10))
    assert isinstance(before, JobView)
    with line.rig.database.write() as session:
        session.connection().execute(
            update(Job).where(col(Job.id) == before.id).values(resolved={"spec": "unreadable"})
        )
    line.batches.clear()
    hidden, shown = line.submitted(line.asked("a", key="before", seed=10), line.asked("a", seed=11))
    assert line.batches == [2]
    assert isinstance(hidden, ValueError)
    assert isinstance(shown, JobView)


def test_what_may_take_long_holds_up_nobody(line: Line) -> None:
    shots = [{"question": "What is 1 plus 1?", "answers": ["2"]}]
    views = line.submitted(
        line.asked("a", seed=1),
        line.asked("a", dataset={"rows": rows(60)}),
        line.asked("a", probe={"shots": shots}),
        line.asked("a", prompts={"extra_refusals": ["Pass."]}),
        line.asked("a", prompts={"templates": {"open_basic": "Q: {question}"}}),
    )
    assert all(isinstance(view, JobView) for view in views)
    assert line.batches == [1, 1, 1, 1, 1]
