"""The plan: which stages a job has, what each reads, and what its parameters say."""

from typing import Any

import pytest
from tests.services.gateway.rigs.world import ref, resolved

from craft.contracts.spec.jobs import Quantization, TrainingSettings
from craft.contracts.stages.artifacts import stage_key
from craft.contracts.stages.kinds import FACTS, Service, StageKind
from craft.contracts.stages.parameters import (
    AnswerParameters,
    IngestParameters,
    ProbeParameters,
    ReportParameters,
    TuningSetParameters,
)
from craft.core.prompts import PromptMode
from craft.core.strategies import Strategy
from craft_gateway.plan.progress import StageShare, percent_done
from craft_gateway.plan.stages import FromStage, PlannedStage, ResolvedJob, plan

BEFORE = ["ingest", "probe:initial", "score:initial"]
REHEARSAL = ["rehearsal_set", "rehearse", "probe:rehearsed", "score:rehearsed", "flow"]
ANSWERS = ["answer:basic", "answer:refuse"]


def of_strategy(name: str) -> list[str]:
    return [f"{kind}:{name}" for kind in ("tuning_set", "tune", "answer", "evaluate", "package")]


def names(job: ResolvedJob) -> list[str]:
    return [stage.name for stage in plan(job)]


def by_name(job: ResolvedJob) -> dict[str, PlannedStage]:
    return {stage.name: stage for stage in plan(job)}


def test_the_full_method_plans_every_stage_of_the_design() -> None:
    assert names(resolved(Strategy.CRAFT)) == [*BEFORE, *REHEARSAL, *ANSWERS, *of_strategy("craft"), "report"]


@pytest.mark.parametrize("strategy", [s for s in Strategy if not s.needs_flow])
def test_a_strategy_without_flow_alone_plans_no_rehearsal(strategy: Strategy) -> None:
    assert names(resolved(strategy)) == [*BEFORE, *ANSWERS, *of_strategy(strategy), "report"]


def test_strategies_share_every_stage_that_does_not_name_them() -> None:
    planned = names(resolved(Strategy.CRAFT, Strategy.COR_RAIT))
    assert planned == [
        *BEFORE,
        *REHEARSAL,
        *ANSWERS,
        *of_strategy("craft"),
        *of_strategy("cor-rait"),
        "report",
    ]


@pytest.mark.parametrize("strategies", [list(Strategy), [Strategy.VAN_TUNING], [Strategy.CRAFT_NO_CERTAINTY]])
def test_every_stage_comes_after_those_it_reads_and_names_are_unique(strategies: list[Strategy]) -> None:
    seen: set[str] = set()
    for stage in plan(resolved(*strategies, evaluation=["trivia", "nq"])):
        assert set(stage.depends_on) <= seen
        assert stage.name not in seen
        seen.add(stage.name)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("ingest", {"dataset": ref("dataset"), "evaluated:nq": ref("nq")}),
        ("probe:initial", {"questions": "ingest"}),
        ("score:initial", {"questions": "ingest", "probe": "probe:initial"}),
        (
            "rehearsal_set",
            {
                "questions": "ingest",
                "probe": "probe:initial",
                "diagnosis": "probe:initial",
                "states": "score:initial",
            },
        ),
        ("rehearse", {"rows": "rehearsal_set", "diagnosis": "probe:initial"}),
        ("probe:rehearsed", {"questions": "ingest", "adapter": "rehearse"}),
        ("score:rehearsed", {"questions": "ingest", "probe": "probe:rehearsed"}),
        ("flow", {"before": "score:initial", "after": "score:rehearsed"}),
        ("answer:basic", {"questions": "ingest", "questions:nq": "ingest:nq"}),
        ("ingest:nq", {"dataset": ref("nq")}),
        (
            "tuning_set:craft",
            {"questions": "ingest", "states": "score:initial", "diagnosis": "probe:initial", "flow": "flow"},
        ),
        (
            "tuning_set:cor-rait",
            {"questions": "ingest", "states": "score:initial", "diagnosis": "probe:initial", "flow": "flow"},
        ),
        ("tune:craft", {"rows": "tuning_set:craft"}),
        ("answer:craft", {"questions": "ingest", "questions:nq": "ingest:nq", "adapter": "tune:craft"}),
        (
            "evaluate:craft",
            {
                "questions": "ingest",
                "questions:nq": "ingest:nq",
                "initial_basic": "answer:basic",
                "initial_refuse": "answer:refuse",
                "candidate": "answer:craft",
            },
        ),
        (
            "package:craft",
            {
                "questions": "ingest",
                "tuned": "tune:craft",
                "rows": "tuning_set:craft",
                "candidate": "answer:craft",
                "evaluation": "evaluate:craft",
            },
        ),
    ],
)
def test_a_stage_reads_by_role_what_its_contract_names(name: str, inputs: dict[str, object]) -> None:
    stage = by_name(resolved(Strategy.CRAFT, Strategy.COR_RAIT, evaluation=["nq"]))[name]
    found = {role: source.name if isinstance(source, FromStage) else source for role, source in stage.inputs.items()}
    assert found == inputs


def test_the_report_reads_every_other_stage_by_its_name() -> None:
    *others, report = plan(resolved(*Strategy, evaluation=["nq"]))
    assert report.name == "report"
    assert list(report.inputs) == [stage.name for stage in others]
    assert report.depends_on == tuple(stage.name for stage in others)


def test_an_evaluation_set_is_held_out_whole_whatever_the_seed() -> None:
    parameters = by_name(resolved(evaluation=["nq"], seed=7))["ingest:nq"].parameters
    assert isinstance(parameters, IngestParameters)
    assert (parameters.held_out_fraction, parameters.seed) == (1.0, 0)


def test_tuned_models_answer_the_refuse_prompt() -> None:
    stages = by_name(resolved())
    modes = {
        name: parameters.mode
        for name in ("answer:basic", "answer:refuse", "answer:craft")
        if isinstance(parameters := stages[name].parameters, AnswerParameters)
    }
    assert modes == {
        "answer:basic": PromptMode.BASIC,
        "answer:refuse": PromptMode.REFUSE,
        "answer:craft": PromptMode.REFUSE,
    }


def test_both_probes_ask_in_exactly_the_same_way() -> None:
    stages = by_name(resolved())
    assert stages["probe:initial"].parameters == stages["probe:rehearsed"].parameters


@pytest.mark.parametrize(
    "change",
    [
        {"name": "another"},
        {"labels": {"ticket": "1"}},
        {"priority": 99},
        {"strategies": [Strategy.VAN_TUNING]},
        {"selection": {"tau": 0.4}},
        {"training": {"epochs": 1}},
        {"evaluation_settings": {"resamples": 500}},
        {"prompts": {"extra_refusals": ["No idea, mate."]}},
        {"accept": ["repeated_questions"]},
    ],
)
def test_what_does_not_change_a_probe_does_not_change_its_parameters(change: dict[str, object]) -> None:
    before = resolved()
    after = before.model_copy(update={"spec": before.spec.model_validate({**before.spec.model_dump(), **change})})
    assert by_name(before)["probe:initial"].parameters == by_name(after)["probe:initial"].parameters


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"probe": {"temperature": 0.5}},
        {"prompts": {"language": "zh"}},
        {"accept": ["repeated_questions", "replies_cut"]},
    ],
)
def test_what_changes_a_probe_changes_its_parameters(change: dict[str, Any]) -> None:
    before, after = resolved(), resolved(**change)
    parameters = by_name(before)["probe:initial"].parameters
    assert isinstance(parameters, ProbeParameters)
    assert parameters != by_name(after)["probe:initial"].parameters


def test_what_a_job_accepts_of_replies_reaches_every_stage_that_asks_the_model() -> None:
    stages = by_name(resolved(accept=["replies_cut", "repeated_questions", "letters_improbable"]))
    for name in ("probe:initial", "probe:rehearsed", "answer:basic", "answer:refuse", "answer:craft"):
        parameters = stages[name].parameters
        assert isinstance(parameters, ProbeParameters | AnswerParameters)
        assert parameters.accept == ["letters_improbable", "replies_cut"]


def test_the_report_shows_the_whole_job_but_not_its_rows() -> None:
    job = resolved(name="support")
    rows = job.spec.dataset.model_copy(update={"id": None, "rows": [{"question": "?"}]})
    parameters = plan(job.model_copy(update={"spec": job.spec.model_copy(update={"dataset": rows})}))[-1].parameters
    assert isinstance(parameters, ReportParameters)
    shown = parameters.job
    assert (shown["name"], shown["model"]) == ("support", job.model.model_dump(mode="json"))
    assert isinstance(shown["training"], dict)
    assert shown["training"]["lora_r"] == 64
    assert shown["dataset"] == {"id": None}
    assert not {"labels", "priority"} & set(shown)


def test_two_jobs_of_one_specification_have_the_same_keys() -> None:
    first, second = (stage_key(plan(resolved(name="x"))[-1].parameters, {}) for _ in range(2))
    assert first == second


def test_every_stage_goes_to_the_queue_of_its_service() -> None:
    stages = by_name(resolved())
    assert stages["tune:craft"].service is Service.TRAINING
    assert stages["probe:initial"].service is Service.INFERENCE
    assert stages["flow"].service is Service.SCORING
    assert stages["ingest"].service is Service.DATASETS


def test_percent_is_0_at_first_and_100_only_when_all_is_done() -> None:
    kinds = list(StageKind)
    assert set(FACTS) == set(kinds)
    assert percent_done(StageShare(kind, 0.0) for kind in kinds) == 0.0
    assert percent_done(StageShare(kind, 1.0) for kind in kinds) == 100.0
    nearly = [StageShare(kind, 1.0) for kind in kinds[:-1]] + [StageShare(kinds[-1], 0.9999)]
    assert percent_done(nearly) == 99.9


def test_half_a_probe_counts_half_of_its_weight() -> None:
    shares = [StageShare(StageKind.PROBE, 0.5), StageShare(StageKind.TUNE, 0.0)]
    assert percent_done(shares) == pytest.approx(100 * 15 / 42, abs=0.05)


def test_strategies_of_a_job_know_one_another_whatever_their_order() -> None:
    def compared(*strategies: Strategy) -> list[Strategy]:
        parameters = by_name(resolved(*strategies))["tuning_set:cor-rait"].parameters
        assert isinstance(parameters, TuningSetParameters)
        return parameters.compared_with

    both = [Strategy.COR_RAIT, Strategy.CRAFT]
    assert compared(Strategy.CRAFT, Strategy.COR_RAIT) == compared(Strategy.COR_RAIT, Strategy.CRAFT) == both


def test_the_models_own_answers_are_read_only_where_they_are_taught() -> None:
    def inputs(**selection: object) -> set[str]:
        return set(by_name(resolved(selection=selection))["tuning_set:craft"].inputs)

    assert inputs(van_target="own") - inputs() == {"probe"}


def test_only_tuning_and_its_package_know_of_4_bits() -> None:
    plain, quantized = (
        by_name(resolved(Strategy.CRAFT, training=TrainingSettings(quantization=kind))) for kind in Quantization
    )
    changed = {name for name, stage in plain.items() if stage.parameters != quantized[name].parameters}
    assert {"tune:craft", "package:craft"} <= changed <= {"tune:craft", "package:craft", "report"}
