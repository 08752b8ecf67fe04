"""The stages score, flow and evaluate, on artifacts that are small enough to compute by hand."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel

from craft.contracts.documents.evaluation import EvaluationDocument
from craft.contracts.spec.jobs import EvaluationSettings, PromptSettings
from craft.contracts.stages.claims import StageProgress
from craft.contracts.stages.parameters import EvaluateParameters, FlowParameters, ScoreParameters
from craft.contracts.stages.rows import (
    EVALUATION_FILE,
    FLOW_FILE,
    HELD_OUT_FILE,
    OUTCOMES_FILE,
    REPLIES_FILE,
    SAMPLES_FILE,
    STATES_FILE,
    TRAIN_FILE,
    FlowRow,
    OutcomeRow,
    ProbeRow,
    QuestionRow,
    ReplyRow,
    StateRow,
)
from craft.core.knowledge import certainty_of
from craft.core.questions import Task
from craft.errors import DatasetInvalid, Internal, MissingStates, RequestInvalid
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import read_rows, write_rows
from craft_scoring.embedding.fake import HashingEmbedder
from craft_scoring.evaluation import evaluate
from craft_scoring.stages import flow, score

FRANCE = QuestionRow(id="france", question="Capital of France?", answers=["Paris"], category="capital")
PERU = QuestionRow(id="peru", question="Capital of Peru?", answers=["Lima"], category="capital")
IRON = QuestionRow(id="iron", question="Symbol of iron?", answers=["Fe"], category="chemistry")
GOLD = QuestionRow(id="gold", question="Symbol of gold?", answers=["Au"], category="chemistry")
PICK = QuestionRow(id="pick", question="Pick", choices=["red", "green", "blue"], answer=1)


class Rig:
    """Makes folders of rows as stage inputs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.progress: list[StageProgress] = []

    def folder(self, name: str, files: Mapping[str, Iterable[BaseModel]]) -> Path:
        folder = self.root / name
        folder.mkdir()
        for file, rows in files.items():
            write_rows(folder / file, rows)
        return folder

    def context(self, **inputs: Path) -> LocalContext:
        output = self.root / "output"
        output.mkdir()
        roles = {role.replace("__", ":"): path for role, path in inputs.items()}
        return LocalContext(
            output=output,
            checkpoint=self.root,
            inputs=roles,
            on_progress=self.progress.append,
        )


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def _fake(name: str) -> HashingEmbedder:
    assert name == "fake"
    return HashingEmbedder()


def _score(
    rig: Rig, questions: list[QuestionRow], probes: list[ProbeRow], task: Task = Task.OPEN_ENDED
) -> LocalContext:
    context = rig.context(
        questions=rig.folder("questions", {TRAIN_FILE: questions}),
        probe=rig.folder("probe", {SAMPLES_FILE: probes}),
    )
    parameters = ScoreParameters(task=task, embedder="fake", prompts=PromptSettings())
    result = score(parameters, context, embedders=_fake)
    assert result.counts["questions"] == len(questions)
    assert result.cost.seconds >= 0
    return context


def test_states_are_the_cores_in_the_order_of_the_questions(rig: Rig) -> None:
    known, unsure = ["Paris", "It is Paris.", "Paris", "Paris"], ["Cusco", "Lima", "I don't know.", "Quito"]
    probes = [ProbeRow(id="peru", samples=unsure), ProbeRow(id="france", samples=known)]
    context = _score(rig, [FRANCE, PERU], probes)
    states = list(read_rows(context.output / STATES_FILE, StateRow))
    assert [state.id for state in states] == ["france", "peru"]
    assert [state.correctness for state in states] == [1.0, 0.25]
    for state, samples in zip(states, (known, unsure), strict=True):
        assert state.certainty == pytest.approx(certainty_of(HashingEmbedder().embed(samples)))
        assert state.letter_mass is None
    assert rig.progress[-1] == StageProgress(done=2, total=2)


def test_choice_states_keep_the_letters_mass(rig: Rig) -> None:
    probes = [ProbeRow(id="pick", logprobs=[math.log(0.1), math.log(0.3), math.log(0.1)])]
    context = _score(rig, [PICK], probes, Task.MULTIPLE_CHOICE)
    [state] = read_rows(context.output / STATES_FILE, StateRow)
    assert state.correctness == pytest.approx(0.6)
    entropy = -(0.6 * math.log(0.6) + 2 * 0.2 * math.log(0.2))
    assert state.certainty == pytest.approx(1 - entropy / math.log(3))
    assert state.letter_mass == pytest.approx(0.5)


def test_more_questions_than_one_batch_stay_in_order(rig: Rig) -> None:
    questions = [QuestionRow(id=f"q{n}", question="?", answers=[f"Answer{n}"]) for n in range(1203)]
    probes = [ProbeRow(id=f"q{n}", samples=[f"Answer{n}", f"Answer{n + n % 2}"]) for n in range(1203)]
    context = _score(rig, questions, probes)
    states = list(read_rows(context.output / STATES_FILE, StateRow))
    assert [state.correctness for state in states] == [1.0 if n % 2 == 0 else 0.5 for n in range(1203)]
    assert [progress.done for progress in rig.progress] == [500, 1000, 1203]


@pytest.mark.parametrize(
    "probes",
    [
        [ProbeRow(id="france", samples=["Paris"])],
        [ProbeRow(id=name, samples=["Paris"]) for name in ("france", "peru", "chile")],
        [ProbeRow(id=name, samples=["Paris"]) for name in ("france", "peru", "peru")],
    ],
)
def test_a_missing_repeated_or_foreign_probe_row_is_an_error(rig: Rig, probes: list[ProbeRow]) -> None:
    with pytest.raises(MissingStates):
        _score(rig, [FRANCE, PERU], probes)


@pytest.mark.parametrize(
    ("question", "probe", "task"),
    [
        (FRANCE, ProbeRow(id="france"), Task.OPEN_ENDED),
        (PICK, ProbeRow(id="pick", logprobs=[-1.0, -1.0]), Task.MULTIPLE_CHOICE),
        (PICK, ProbeRow(id="pick"), Task.MULTIPLE_CHOICE),
        (PICK, ProbeRow(id="pick", samples=["A"]), Task.OPEN_ENDED),
    ],
)
def test_a_probe_that_does_not_fit_its_question_is_an_error(
    rig: Rig, question: QuestionRow, probe: ProbeRow, task: Task
) -> None:
    with pytest.raises(Internal):
        _score(rig, [question], [probe], task)


def test_an_unknown_language_is_named(rig: Rig) -> None:
    context = rig.context(
        questions=rig.folder("questions", {TRAIN_FILE: [FRANCE]}),
        probe=rig.folder("probe", {SAMPLES_FILE: [ProbeRow(id="france", samples=["Paris"])]}),
    )
    parameters = ScoreParameters(task=Task.OPEN_ENDED, embedder="fake", prompts=PromptSettings(language="xx"))
    with pytest.raises(RequestInvalid, match="xx"):
        score(parameters, context, embedders=_fake)


def test_flow_is_after_minus_before_joined_by_id(rig: Rig) -> None:
    before = [StateRow(id="a", correctness=0.2, certainty=0.5), StateRow(id="b", correctness=0.9, certainty=0.8)]
    after = [StateRow(id="b", correctness=0.6, certainty=0.9), StateRow(id="a", correctness=0.5, certainty=0.25)]
    context = rig.context(
        before=rig.folder("before", {STATES_FILE: before}), after=rig.folder("after", {STATES_FILE: after})
    )
    result = flow(FlowParameters(), context)
    rows = list(read_rows(context.output / FLOW_FILE, FlowRow))
    assert [row.id for row in rows] == ["a", "b"]
    assert [rows[0].correctness, rows[0].certainty] == pytest.approx([0.3, -0.25])
    assert result.counts == {"questions": 2, "improved": 1, "worsened": 1}


def test_flow_refuses_to_lose_a_question(rig: Rig) -> None:
    rows = [StateRow(id=name, correctness=0.2, certainty=0.5) for name in "ab"]
    context = rig.context(
        before=rig.folder("before", {STATES_FILE: rows}), after=rig.folder("after", {STATES_FILE: rows[:1]})
    )
    with pytest.raises(MissingStates):
        flow(FlowParameters(), context)


def _replies(*replies: str, name: str = "held_out") -> list[ReplyRow]:
    ids = ("france", "peru", "iron", "gold")
    return [ReplyRow(set=name, id=row_id, reply=reply) for row_id, reply in zip(ids, replies, strict=True)]


def _evaluate(rig: Rig, candidate: list[ReplyRow], **further: Path) -> tuple[EvaluationDocument, list[OutcomeRow]]:
    basic = _replies("Paris", "Quito", "It is Fe.", "Silver") + [
        r.model_copy(update={"set": "ood"}) for r in _ood("Yes")
    ]
    refuse = _replies("Paris", "Quito", "I don't know.", "Silver") + _ood("I don't know.")
    context = rig.context(
        questions=rig.folder("ingest", {HELD_OUT_FILE: [FRANCE, PERU, IRON, GOLD]}),
        initial_basic=rig.folder("basic", {REPLIES_FILE: basic}),
        initial_refuse=rig.folder("refuse", {REPLIES_FILE: refuse}),
        candidate=rig.folder("candidate", {REPLIES_FILE: candidate}),
        **further,
    )
    parameters = EvaluateParameters(
        task=Task.OPEN_ENDED,
        candidate="craft",
        settings=EvaluationSettings(resamples=300),
        prompts=PromptSettings(),
        seed=1,
    )
    result = evaluate(parameters, context)
    document = EvaluationDocument.model_validate_json((context.output / EVALUATION_FILE).read_bytes())
    assert result.metrics["pc"] == document.sets["held_out"].candidate.micro.pc.value
    return document, list(read_rows(context.output / OUTCOMES_FILE, OutcomeRow))


def _ood(reply: str) -> list[ReplyRow]:
    return [ReplyRow(set="ood", id="moon", reply=reply)]


def test_evaluation_worked_by_hand(rig: Rig) -> None:
    """M0: 2 right, 2 wrong, so Pc0/Pw0 = 1. Candidate: right, refused, refused (M0 knew it), unparsed."""
    document, outcomes = _evaluate(rig, _replies("Paris.", "I don't know.", "I don’t know", "  "))
    held_out = document.sets["held_out"]
    assert list(document.sets) == ["held_out"]
    micro = held_out.candidate.micro
    assert [micro.pc.value, micro.pw.value, micro.pr.value, micro.pu.value] == [0.25, 0.0, 0.5, 0.25]
    assert micro.ths.value == 0.25
    assert micro.over_refusal.value == 0.5
    assert micro.selective_accuracy.value == 1.0
    assert micro.coverage.value == 0.25
    assert micro.abstain_precision.value == 0.5
    assert micro.abstain_recall.value == 0.5
    assert held_out.initial_basic.micro.ths.value == 0.0
    # M0 REFUSE: 1 right, 2 wrong, 1 refused: 0.25 - 0.5.
    assert held_out.initial_refuse.micro.ths.value == -0.25
    assert held_out.versus_initial_basic.ths.value == 0.25
    assert held_out.versus_initial_refuse.ths.value == 0.5
    assert held_out.versus_initial_basic.over_refusal.value == 0.5
    assert held_out.versus_initial_refuse.over_refusal.value == 0.0
    low, high = micro.ths.low, micro.ths.high
    assert low is not None
    assert high is not None
    assert low <= 0.25 <= high
    capital = held_out.candidate.categories["capital"]
    assert (capital.count, capital.right, capital.refused) == (2, 0.5, 0.5)
    assert [(row.model, row.outcome.value) for row in outcomes if row.id == "iron"] == [
        ("initial_basic", "right"), ("initial_refuse", "refused"), ("craft", "refused"),
    ]  # fmt: skip


def test_further_sets_are_evaluated_beside_the_held_out_one(rig: Rig) -> None:
    moon = QuestionRow(id="moon", question="Is the moon made of cheese?", answers=["No"])
    replies = _replies("Paris.", "I don't know.", "Fe", "I don't know.") + _ood("No.")
    document, _ = _evaluate(rig, replies, questions__ood=rig.folder("ood", {HELD_OUT_FILE: [moon]}))
    assert list(document.sets) == ["held_out", "ood"]
    assert document.sets["ood"].candidate.micro.pc.value == 1.0
    assert document.sets["ood"].initial_basic.micro.pw.value == 1.0


def test_a_missing_reply_is_an_error_not_a_smaller_denominator(rig: Rig) -> None:
    with pytest.raises(MissingStates, match="craft on held_out"):
        _evaluate(rig, _replies("Paris.", "I don't know.", "Fe", "I don't know.")[:3])


def test_an_empty_held_out_set_is_a_wrong_dataset(rig: Rig) -> None:
    empty = rig.folder("replies", {REPLIES_FILE: []})
    context = rig.context(
        questions=rig.folder("ingest", {HELD_OUT_FILE: []}),
        initial_basic=empty,
        initial_refuse=empty,
        candidate=empty,
    )
    parameters = EvaluateParameters(
        task=Task.OPEN_ENDED, candidate="craft", settings=EvaluationSettings(), prompts=PromptSettings(), seed=1
    )
    with pytest.raises(DatasetInvalid, match="nothing was evaluated"):
        evaluate(parameters, context)
