"""The service's stages over artifacts in plain folders."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from craft.contracts.spec.jobs import PromptSettings, SelectionSettings
from craft.contracts.stages.diagnosis import DIAGNOSIS_FILE, ProbeDiagnosis, ShortageView
from craft.contracts.stages.parameters import RehearsalSetParameters, TuningSetParameters
from craft.contracts.stages.rows import (
    DECISIONS_FILE,
    FLOW_FILE,
    QUESTIONS_FILE,
    SAMPLES_FILE,
    STATES_FILE,
    TRAIN_FILE,
    TRAINING_FILE,
    Decision,
    DecisionRow,
    FlowRow,
    ProbeRow,
    QuestionRow,
    StateRow,
    TrainingKind,
    TrainingRow,
)
from craft.core.questions import Task
from craft.core.selection import DropReason
from craft.core.strategies import Shortage, Strategy
from craft.errors import TooFewKnown, TooFewUnknown
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import read_rows, write_rows
from craft_datasets.stages import rehearsal_set, tuning_set


def context(folder: Path, inputs: Mapping[str, Path]) -> LocalContext:
    output = folder / f"output-{len(list(folder.iterdir()))}"
    output.mkdir()
    return LocalContext(output=output, checkpoint=folder, inputs=inputs)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    folder = tmp_path / "questions"
    folder.mkdir()
    rows = [QuestionRow(id=f"q{n}", question=f"Question {n}?", answers=[f"Answer {n}"]) for n in range(40)]
    for name in (QUESTIONS_FILE, TRAIN_FILE):
        write_rows(folder / name, rows)
    return folder


def states(folder: Path, correctness: Mapping[int, float]) -> Path:
    target = folder / "states"
    target.mkdir()
    rows = [StateRow(id=f"q{n}", correctness=correctness.get(n, 0.0), certainty=n / 40) for n in range(40)]
    write_rows(target / STATES_FILE, rows)
    return target


def flow(folder: Path, improved: set[int]) -> Path:
    target = folder / "flow"
    target.mkdir()
    rows = [FlowRow(id=f"q{n}", correctness=0.2 if n in improved else 0.0, certainty=0.0) for n in range(40)]
    write_rows(target / FLOW_FILE, rows)
    return target


def tuning(strategy: Strategy, **selection: int) -> TuningSetParameters:
    return TuningSetParameters(
        task=Task.OPEN_ENDED,
        strategy=strategy,
        compared_with=[Strategy.CRAFT, Strategy.COR_RAIT],
        selection=SelectionSettings.model_validate(selection),
        prompts=PromptSettings(),
        seed=7,
    )


def diagnosis(folder: Path) -> Path:
    """A probe that saw a thinking model."""
    target = folder / "diagnosis"
    target.mkdir()
    shortages = [
        ShortageView(reason=reason, change=f"Change {reason}.", samples=[f"“Q” → “{reason}” (right: Rome)"])
        for reason in ("the thoughts", "the questions")
    ]
    document = ProbeDiagnosis(seen="Nothing is right.", few_known=shortages[0], few_unknown=shortages[1])
    (target / DIAGNOSIS_FILE).write_text(document.model_dump_json())
    return target


def rehearsing() -> RehearsalSetParameters:
    return RehearsalSetParameters(
        task=Task.OPEN_ENDED,
        size=1,
        threshold=0.99,
        relax_steps=[],
        shortage=Shortage.SHRINK,
        prompts=PromptSettings(),
    )


@pytest.mark.parametrize(
    ("known", "error", "reason"), [(0.0, TooFewKnown, "the thoughts"), (1.0, TooFewUnknown, "the questions")]
)
def test_a_set_without_candidates_is_explained_by_the_probe(
    tmp_path: Path, questions: Path, known: float, error: type[TooFewKnown | TooFewUnknown], reason: str
) -> None:
    inputs = {
        "questions": questions,
        "states": states(tmp_path, dict.fromkeys(range(40), known)),
        "flow": flow(tmp_path, set()),
        "diagnosis": diagnosis(tmp_path),
    }
    with pytest.raises(error, match=rf"Nothing is right. Most likely {reason}. Samples: “Q”") as raised:
        tuning_set(tuning(Strategy.CRAFT, n_van=8, n_idk=2), context(tmp_path, inputs))
    assert raised.value.hint is not None
    assert raised.value.hint.startswith(f"Change {reason}. Or: ")


def test_a_rehearsal_without_known_questions_is_explained_by_the_probe(tmp_path: Path, questions: Path) -> None:
    inputs = {"questions": questions, "states": states(tmp_path, {}), "diagnosis": diagnosis(tmp_path)}
    with pytest.raises(TooFewKnown, match=r"Most likely the thoughts. Samples: “Q” → “the thoughts” \(right: Rome\)"):
        rehearsal_set(rehearsing(), context(tmp_path, inputs))


def test_rehearsal_teaches_the_models_own_wording(tmp_path: Path, questions: Path) -> None:
    probe = tmp_path / "probe"
    probe.mkdir()
    samples = ["It is answer 39.", "answer 39", "answer 39", "no"]
    write_rows(probe / SAMPLES_FILE, [ProbeRow(id=f"q{n}", samples=samples) for n in range(40)])
    inputs = {"questions": questions, "probe": probe, "states": states(tmp_path, {38: 1.0, 39: 1.0})}
    parameters = RehearsalSetParameters(
        task=Task.OPEN_ENDED,
        size=1,
        threshold=0.99,
        relax_steps=[0.9],
        shortage=Shortage.SHRINK,
        prompts=PromptSettings(),
    )
    where = context(tmp_path, inputs)
    result = rehearsal_set(parameters, where)
    (row,) = read_rows(where.output / TRAINING_FILE, TrainingRow)
    assert (row.id, row.kind, row.target) == ("q39", TrainingKind.REHEARSE, "answer 39")
    assert [message.content for message in row.messages] == ["Question 39?"]
    assert result.notes == ["The rehearsal threshold was relaxed to 0.9."]


def test_every_question_gets_a_decision_and_both_kinds_the_refuse_prompt(tmp_path: Path, questions: Path) -> None:
    inputs = {
        "questions": questions,
        "states": states(tmp_path, dict.fromkeys(range(20), 1.0)),
        "flow": flow(tmp_path, set(range(30, 40))),
    }
    where = context(tmp_path, inputs)
    result = tuning_set(tuning(Strategy.CRAFT, n_van=8, n_idk=2), where)
    rows = list(read_rows(where.output / TRAINING_FILE, TrainingRow))
    decisions = {row.id: row for row in read_rows(where.output / DECISIONS_FILE, DecisionRow)}
    assert {row.kind: row.target for row in rows if row.kind is TrainingKind.IDK} == {"idk": "I don't know."}
    assert {row.id for row in rows if row.kind is TrainingKind.VAN} == {f"q{n}" for n in range(12, 20)}
    assert {row.id for row in rows if row.kind is TrainingKind.IDK} == {"q20", "q21"}
    assert all("if you don't know the answer" in row.messages[0].content for row in rows)
    assert len(decisions) == 40
    assert decisions["q35"].reason is DropReason.DYNAMIC_CONFLICT
    assert (decisions["q25"].decision, decisions["q25"].reason) == (Decision.DROPPED, DropReason.STATIC_CONFLICT)
    assert result.counts["dropped_dynamic_conflict"] == 10


def test_a_known_question_may_be_taught_in_the_models_own_words(tmp_path: Path, questions: Path) -> None:
    probe = tmp_path / "probe"
    probe.mkdir()
    write_rows(probe / SAMPLES_FILE, [ProbeRow(id=f"q{n}", samples=[f"That is answer {n}."]) for n in range(1, 40)])
    inputs = {"questions": questions, "states": states(tmp_path, {0: 1.0, 1: 1.0}), "probe": probe}
    parameters = tuning(Strategy.COR_RAIT, n_van=2, n_idk=1).model_copy(update={"compared_with": []})
    where = context(tmp_path, inputs)
    tuning_set(parameters, where)
    rows = read_rows(where.output / TRAINING_FILE, TrainingRow)
    van = {row.id: row.target for row in rows if row.kind is TrainingKind.VAN}
    assert van == {"q0": "Answer 0", "q1": "That is answer 1."}


def test_a_refusal_that_names_the_answer_is_not_taught_as_one(tmp_path: Path, questions: Path) -> None:
    probe = tmp_path / "probe"
    probe.mkdir()
    samples = ["No comment on answer 0.", "No comment on answer 0.", "It is answer 0."]
    write_rows(probe / SAMPLES_FILE, [ProbeRow(id="q0", samples=samples)])
    inputs = {"questions": questions, "states": states(tmp_path, {0: 1.0}), "probe": probe}
    prompts = PromptSettings(extra_refusals=["No comment"])
    changes = {"compared_with": [], "prompts": prompts}
    where = context(tmp_path, inputs)
    tuning_set(tuning(Strategy.COR_RAIT, n_van=1, n_idk=1).model_copy(update=changes), where)
    rows = read_rows(where.output / TRAINING_FILE, TrainingRow)
    assert [row.target for row in rows if row.kind is TrainingKind.VAN] == ["It is answer 0."]


def test_compared_strategies_shrink_to_one_size(tmp_path: Path, questions: Path) -> None:
    inputs = {
        "questions": questions,
        "states": states(tmp_path, dict.fromkeys(range(20), 1.0)),
        "flow": flow(tmp_path, set(range(24, 40))),
    }
    sizes = [
        tuning_set(tuning(strategy, n_van=20, n_idk=20), context(tmp_path, inputs)).counts
        for strategy in (Strategy.CRAFT, Strategy.COR_RAIT)
    ]
    assert [(counts["van"], counts["idk"]) for counts in sizes] == [(4, 4), (4, 4)]


def test_sizes_left_out_are_the_most_at_four_to_one(tmp_path: Path, questions: Path) -> None:
    inputs = {
        "questions": questions,
        "states": states(tmp_path, dict.fromkeys(range(20), 1.0)),
        "flow": flow(tmp_path, set()),
    }
    counts = tuning_set(tuning(Strategy.CRAFT), context(tmp_path, inputs)).counts
    assert (counts["van"], counts["idk"]) == (20, 5)


@pytest.mark.parametrize(("known", "error"), [(0.0, TooFewKnown), (1.0, TooFewUnknown)])
def test_a_model_that_knows_nothing_or_everything_is_an_error_with_a_hint(
    tmp_path: Path, questions: Path, known: float, error: type[TooFewKnown | TooFewUnknown]
) -> None:
    inputs = {"questions": questions, "states": states(tmp_path, dict.fromkeys(range(40), known))}
    parameters = tuning(Strategy.COR_RAIT, n_van=4, n_idk=2).model_copy(update={"compared_with": []})
    with pytest.raises(error) as caught:
        tuning_set(parameters, context(tmp_path, inputs))
    assert caught.value.hint
