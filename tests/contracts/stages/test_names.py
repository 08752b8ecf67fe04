"""Names of stages: how one is spelled and read, their order, and the inputs that are evaluation sets."""

import pytest
from tests.services.gateway.rigs.world import resolved

from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.names import (
    HELD_OUT,
    INGEST,
    PROBE_REHEARSED,
    QUESTIONS,
    evaluation_sets,
    ingest_stage,
    kind_of,
    position,
    questions_role,
    which_of,
)
from craft.core.strategies import Strategy
from craft_gateway.plan.stages import plan


def test_a_name_says_the_kind_of_its_stage() -> None:
    stages = plan(resolved(*Strategy, evaluation=["nq"]))
    assert all(kind_of(stage.name) is stage.kind for stage in stages)
    assert {which_of(stage.name) for stage in stages if stage.kind is StageKind.TUNE} == set(Strategy)
    assert which_of(INGEST) == ""


@pytest.mark.parametrize("name", ["", "toy", "toy:craft", "probes:initial"])
def test_an_unknown_name_has_no_kind_and_comes_last(name: str) -> None:
    assert kind_of(name) is None
    assert position(name) > position("report")


@pytest.mark.parametrize("strategies", [[Strategy.CRAFT], [Strategy.VAN_TUNING]])
def test_the_order_is_the_plans(strategies: list[Strategy]) -> None:
    names = [stage.name for stage in plan(resolved(*strategies, evaluation=["nq"]))]
    assert sorted(names, key=position) == names


def test_one_kinds_stages_stand_together_where_a_job_has_several_strategies() -> None:
    names = sorted((stage.name for stage in plan(resolved(Strategy.CRAFT, Strategy.COR_RAIT))), key=position)
    assert names[names.index("flow") :] == [
        "flow", "answer:basic", "answer:refuse",
        "tuning_set:craft", "tuning_set:cor-rait", "tune:craft", "tune:cor-rait", "answer:craft", "answer:cor-rait",
        "evaluate:craft", "evaluate:cor-rait", "package:craft", "package:cor-rait", "report",
    ]  # fmt: skip
    assert names.index("rehearse") < names.index(PROBE_REHEARSED) < names.index("flow")


def test_evaluation_sets_are_the_held_out_split_and_then_the_others_as_they_come() -> None:
    roles = ["adapter", "questions:trivia", "questions:nq", "questions", "questionsmore"]
    assert list(evaluation_sets(roles).items()) == [
        (HELD_OUT, "questions"), ("trivia", "questions:trivia"), ("nq", "questions:nq"),
    ]  # fmt: skip
    assert evaluation_sets(["ingest:nq", "flow", "ingest"], own=INGEST) == {HELD_OUT: "ingest", "nq": "ingest:nq"}


@pytest.mark.parametrize("name", [HELD_OUT, "nq"])
def test_a_set_is_found_under_the_role_and_the_stage_that_are_made_for_it(name: str) -> None:
    assert evaluation_sets([QUESTIONS, questions_role(name)])[name] == questions_role(name)
    assert evaluation_sets([INGEST, ingest_stage(name)], own=INGEST)[name] == ingest_stage(name)
