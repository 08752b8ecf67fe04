"""A new kind of stage touches four files: its facts, its parameters, the plan, and the stages of its service.

The first tests walk the source and hold the modules that may know a kind. The others add a kind that no module knows,
and ask for all that follows from its facts.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from tests.services.gateway.rigs.world import ref, resolved, sha

from craft.contracts.base import Contract
from craft.contracts.documents.estimate import Basis
from craft.contracts.stages.artifacts import Manifest, StageResult, stage_key
from craft.contracts.stages.attempts import AttemptWork
from craft.contracts.stages.kinds import FACTS, RetentionClass, Service, StageFacts, StageKind, WorkUnit
from craft.contracts.stages.names import kind_of, position, stage_name, which_of
from craft.contracts.stages.parameters import PARAMETERS, StageParameters
from craft.core.strategies import Strategy
from craft_gateway.estimates.bounds import upper_bounds
from craft_gateway.estimates.estimator import SizedJob, units_of
from craft_gateway.job_views.views import artifact_view
from craft_gateway.plan.progress import StageShare, percent_done
from craft_gateway.plan.stages import PlannedStage
from craft_gateway.scheduling.duration_model import PastStage, relevant
from craft_gateway.store.tables import Stage
from craft_scoring.report.texts import stage_title

ROOT = Path(__file__).parents[3]
FACTS_FILE = "shared/craft/contracts/stages/kinds.py"
PARAMETERS_FILE = "shared/craft/contracts/stages/parameters.py"
PLAN_FILE = "services/gateway/craft_gateway/plan/stages.py"
STAGES_OF: Mapping[Service, str] = {
    Service.DATASETS: "services/datasets/craft_datasets/stages.py",
    Service.INFERENCE: "services/inference/craft_inference/wiring.py",
    Service.SCORING: "services/scoring/craft_scoring/wiring.py",
    Service.TRAINING: "services/training/craft_training/stages.py",
}
# Further modules that name kinds. None is one that a new kind must be added to.
EXCEPTIONS: Mapping[str, frozenset[StageKind]] = {
    # It spells the names of stages that other modules than the plan look for; none looks for those of `tune`.
    "shared/craft/contracts/stages/names.py": frozenset(StageKind) - {StageKind.TUNE},
    # A job's view links two results, the adapters and the report.
    "services/gateway/craft_gateway/job_views/queries.py": frozenset({StageKind.PACKAGE, StageKind.REPORT}),
    # OpenAI's `trained_tokens` counts the tuning that was asked for, and not the rehearsal.
    "services/gateway/craft_gateway/openai/tuning.py": frozenset({StageKind.TUNE}),
}
# Modules that show a stage's name as an example in the OpenAPI document.
EXAMPLES = {
    "services/gateway/craft_gateway/job_views/routes_events.py",
    "shared/craft/contracts/public/jobs.py",
    "shared/craft/contracts/spec/jobs.py",
}
KINDS = "|".join(kind.value for kind in StageKind)
# `flow`, `tune` and their like are also roles, fields and routes; these are only ever stages.
STAGE_NAME = re.compile(rf"(?:{KINDS}):.*|ingest|rehearsal_set|tuning_set")


@cache
def modules() -> Mapping[str, ast.Module]:
    """The product's modules by their path from the root."""
    files = [*(ROOT / "services").rglob("*.py"), *(ROOT / "shared/craft").rglob("*.py")]
    assert len(files) > 300
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def kinds_named(tree: ast.Module) -> set[StageKind]:
    """The kinds that a module names as `StageKind.X`."""
    return {
        StageKind[node.attr]
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "StageKind"
        if node.attr in StageKind.__members__
    }


def parameters_class(kind: StageKind) -> str:
    """The name of the class of the kind's parameters, from the union that all parameters are read by."""
    mapping: Mapping[str, str] = PARAMETERS.json_schema()["discriminator"]["mapping"]
    return mapping[kind.value].rpartition("/")[2]


def test_a_kind_is_named_by_its_facts_its_parameters_and_its_service() -> None:
    # The plan may name any: it is one of the four.
    named = {path: kinds for path, tree in modules().items() if path != PLAN_FILE and (kinds := kinds_named(tree))}
    allowed: dict[str, set[StageKind]] = {FACTS_FILE: set(StageKind), PARAMETERS_FILE: set(StageKind)}
    for service, path in STAGES_OF.items():
        allowed[path] = {kind for kind, facts in FACTS.items() if facts.service is service}
    allowed |= {path: set(kinds) for path, kinds in EXCEPTIONS.items()}
    assert named == allowed


@pytest.mark.parametrize("kind", list(StageKind))
def test_a_kinds_parameters_are_known_to_the_plan_and_to_the_service_that_does_it(kind: StageKind) -> None:
    wanted = parameters_class(kind)
    knowing = {
        path
        for path, tree in modules().items()
        if any(isinstance(node, ast.Name) and node.id == wanted for node in ast.walk(tree))
    }
    of_service = {path for path in knowing if path.startswith(f"services/{FACTS[kind].service.value}/")}
    assert of_service
    assert knowing - of_service == {PARAMETERS_FILE, PLAN_FILE}


def test_a_stages_name_is_spelled_in_one_place() -> None:
    spelled = {
        path
        for path, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and STAGE_NAME.fullmatch(node.value)
    }
    assert spelled == EXAMPLES | {FACTS_FILE}


class ToyParameters(Contract):
    """The parameters of a kind that is not in the product."""

    kind: StageKind
    strength: int = 1


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> StageKind:
    """A kind as if it were in kinds.py: a member of StageKind with a row in FACTS. Nothing else knows of it."""
    kind = str.__new__(StageKind, "toy")
    kind._name_, kind._value_ = "TOY", "toy"
    monkeypatch.setitem(StageKind._member_map_, "TOY", kind)
    monkeypatch.setitem(StageKind._value2member_map_, "toy", kind)
    monkeypatch.setattr(StageKind, "_member_names_", [*StageKind._member_names_, "TOY"])
    facts = StageFacts(
        service=Service.INFERENCE,
        code_version=7,
        weight=9.0,
        retention=RetentionClass.RESULT,
        needs_model=True,
        unit=WorkUnit.EVALUATION_QUESTIONS,
        title="Play",
        meaning="plays with the model",
    )
    monkeypatch.setitem(cast("dict[StageKind, StageFacts]", FACTS), kind, facts)
    assert list(StageKind)[-1] is StageKind("toy") is kind
    return kind


def planned(toy: StageKind) -> PlannedStage:
    """The toy stage of one strategy, as a plan would have it."""
    parameters = cast("StageParameters", ToyParameters(kind=toy))
    return PlannedStage(stage_name(toy, Strategy.CRAFT), parameters, {})


def test_its_name_is_read_back_and_it_comes_after_the_kinds_that_have_a_place(toy: StageKind) -> None:
    stage = planned(toy)
    assert (stage.name, kind_of(stage.name), which_of(stage.name)) == ("toy:craft", toy, "craft")
    assert position(stage.name) > max(position(kind.value) for kind in StageKind if kind is not toy)


def test_it_goes_to_the_workers_of_its_service(toy: StageKind) -> None:
    assert planned(toy).service is Service.INFERENCE


def test_it_counts_by_its_weight_in_a_jobs_percent(toy: StageKind) -> None:
    shares = [StageShare(toy, 1.0), StageShare(StageKind.EVALUATE, 0.0)]
    assert percent_done(shares) == 90.0


def test_its_key_holds_its_kind_code_version_and_parameters(toy: StageKind, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(**changes: int) -> str:
        return stage_key(cast("StageParameters", ToyParameters(kind=toy, **changes)), {"questions": ref("questions")})

    first = key()
    assert first == key(strength=1) != key(strength=2)
    raised = replace(FACTS[toy], code_version=FACTS[toy].code_version + 1)
    monkeypatch.setitem(cast("dict[StageKind, StageFacts]", FACTS), toy, raised)
    assert key() != first


def test_past_stages_count_for_the_same_model_only_where_the_kind_needs_one(toy: StageKind) -> None:
    mine, other = (
        PastStage(10.0, AttemptWork(units=1.0, model=sha(name), parameters=parameters))
        for name, parameters in (("mine", 100), ("other", 200))
    )
    assert relevant([mine, other], toy, sha("mine"), 100) == ([mine], Basis.SAME)
    assert relevant([other], toy, sha("mine"), 100) == ([other._replace(seconds=5.0)], Basis.SCALED)
    assert relevant([mine, other], StageKind.FLOW, sha("mine"), 100) == ([mine, other], Basis.SAME)


def test_its_work_is_counted_in_its_unit(toy: StageKind) -> None:
    job = resolved(evaluation=["nq"])
    counted = upper_bounds(job.spec, questions=100, evaluation_questions=30, stages=[toy])
    sized = SizedJob(
        job=job,
        stages=[planned(toy)],
        reused={},
        questions=100,
        evaluation={"nq": 30},
        team="default",
        model_folder=None,
    )
    # A model that is asked every evaluation question is also part of the upper bound.
    assert units_of(planned(toy), sized, counted) == counted.held_out_questions + 30 == counted.prompts


def test_its_artifact_is_kept_as_its_retention_says(toy: StageKind) -> None:
    made = ref("toy")
    manifest = Manifest(
        key=made.key, digest=made.digest, kind=toy, code_version=7, parameters={}, inputs={}, files=[],
        result=StageResult(),
    )  # fmt: skip
    row: dict[str, Any] = {"name": "toy:craft", "kind": toy}
    view = artifact_view(Stage(**row), manifest, expires_at=None)
    assert (view.kind, view.retention_class) == (toy, RetentionClass.RESULT)


def test_reports_call_it_by_its_title(toy: StageKind) -> None:
    assert [stage_title(stage_name(toy, which)) for which in ("", "craft", "nq")] == ["Play", "Play: CRaFT", "Play: nq"]
