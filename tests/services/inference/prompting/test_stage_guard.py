"""The guards in the stages probe and answer, over a fake engine: where a stage stops, and what it leaves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from craft.contracts.spec.jobs import ProbeSettings, PromptSettings
from craft.contracts.stages.artifacts import StageResult
from craft.contracts.stages.diagnosis import DIAGNOSIS_FILE, ProbeDiagnosis
from craft.contracts.stages.parameters import AnswerParameters, EngineRef, ModelRef, ProbeParameters
from craft.contracts.stages.rows import (
    HELD_OUT_FILE,
    REPLIES_FILE,
    SAMPLES_FILE,
    TRAIN_FILE,
    ProbeRow,
    QuestionRow,
    ReplyRow,
)
from craft.core.findings import FindingCode
from craft.core.prompts import PromptMode
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question, Task
from craft.core.replies.reply import FinishReason
from craft.errors import RepliesUnusable, Severity
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import read_rows, write_rows
from craft_inference.engine import Prompt
from craft_inference.engine_holder import EngineHolder
from craft_inference.fake_engine import FakeEngine
from craft_inference.prompting import stage_guard
from craft_inference.stages import answer, probe

SHARD = 40
OPEN = [OpenQuestion(f"o{n}", f"What is the capital of Land{n}?", (f"Town{n}",)) for n in range(5 * SHARD)]
CHOICE = [ChoiceQuestion(f"c{n}", f"Which is {n}?", ("x", "y"), n % 2) for n in range(5 * SHARD)]
Say = Callable[[int], str]


def knowing_half(number: int) -> str:
    return f"Town{number}" if number % 2 else f"Village{number}"


def thinking(number: int) -> str:
    return f"<think>\nOkay, the user wants Land{number}"


def cut_thoughts(text: str) -> FinishReason:
    return FinishReason.LENGTH if text.startswith("<think>") else FinishReason.STOP


class Scene:
    """One stage over a fake engine; each run is a new attempt at it."""

    def __init__(self, folder: Path, questions: list[Question]) -> None:
        self._folder = folder
        (folder / "checkpoint").mkdir()
        (folder / "in").mkdir()
        write_rows(folder / "in" / TRAIN_FILE, map(QuestionRow.of, questions))
        write_rows(folder / "in" / HELD_OUT_FILE, map(QuestionRow.of, questions))
        self.asked: list[str] = []

    def probe(
        self, engine: FakeEngine, *, task: Task = Task.OPEN_ENDED, accept: list[FindingCode] | None = None
    ) -> StageResult:
        parameters = ProbeParameters(
            task=task,
            model=ModelRef(id="tiny", revision="main", digest="0" * 64),
            engine=EngineRef(questions_per_shard=SHARD),
            probe=ProbeSettings(samples=2, shots=[]),
            prompts=PromptSettings(),
            seed=1,
            accept=accept or [],
        )
        return self._run(engine, lambda context, holder: probe(parameters, context, engines=holder))

    def answer(self, engine: FakeEngine, mode: PromptMode, **adapter: Path) -> StageResult:
        parameters = AnswerParameters(
            task=Task.OPEN_ENDED,
            model=ModelRef(id="tiny", revision="main", digest="0" * 64),
            engine=EngineRef(questions_per_shard=SHARD),
            mode=mode,
            max_new_tokens=9,
            prompts=PromptSettings(),
        )
        return self._run(engine, lambda context, holder: answer(parameters, context, engines=holder), **adapter)

    @property
    def output(self) -> Path:
        return self._folder / "output"

    def _run(
        self, engine: FakeEngine, run: Callable[[LocalContext, EngineHolder], StageResult], **adapter: Path
    ) -> StageResult:
        self.output.mkdir(exist_ok=True)
        context = LocalContext(self.output, self._folder / "checkpoint", {"questions": self._folder / "in", **adapter})
        try:
            return run(context, EngineHolder(lambda *_: engine, lambda ref: Path(ref.id), name="transformers"))
        finally:
            self.asked = [prompt.id for prompt in engine.seen]


def saying(say: Say) -> FakeEngine:
    def reply(prompt: Prompt, sample: int, adapter: Path | None) -> str:
        del sample, adapter
        return say(int(prompt.id[1:]))

    return FakeEngine(reply, finish=cut_thoughts)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path, list(OPEN))


def test_a_probe_of_a_thinking_model_stops_after_its_first_shard(scene: Scene) -> None:
    with pytest.raises(RepliesUnusable, match=r"Stopped after 40 of 200 questions.*thinks before it answers") as raised:
        scene.probe(saying(thinking))
    assert len(scene.asked) == SHARD
    assert raised.value.message.count("<think>") == 3
    assert {each.code for each in raised.value.findings} == {"replies_cut", "replies_with_thoughts"}
    assert list(scene.output.iterdir()) == []


def test_no_right_reply_stops_the_probe_at_the_shard_that_brings_sixty_questions(scene: Scene) -> None:
    with pytest.raises(RepliesUnusable, match=r"Stopped after 80 of 200 questions. None of 160 replies"):
        scene.probe(saying(lambda number: f"Village{number}"))
    assert len(scene.asked) == 2 * SHARD


def test_letters_without_probability_stop_the_probe_after_its_first_shard(tmp_path: Path) -> None:
    scene = Scene(tmp_path, list(CHOICE))
    with pytest.raises(RepliesUnusable, match=r"Stopped after 40 of 200 questions. Only 0\.0459"):
        scene.probe(FakeEngine(score=lambda *_: (-8.0, -9.0)), task=Task.MULTIPLE_CHOICE)
    assert len(scene.asked) == SHARD


def test_a_later_attempt_stops_without_asking_again(scene: Scene) -> None:
    for _ in range(2):
        with pytest.raises(RepliesUnusable, match="after 40 of 200"):
            scene.probe(saying(thinking))
    assert scene.asked == []


def test_an_accepted_error_goes_on_and_is_a_warning_of_the_stage(scene: Scene) -> None:
    codes = [FindingCode.REPLIES_CUT, FindingCode.REPLIES_WITH_THOUGHTS, FindingCode.NO_REPLY_RIGHT]
    result = scene.probe(saying(thinking), accept=codes)
    assert {(each.code, each.severity, each.accepted) for each in result.findings} == {
        (code, Severity.WARNING, True) for code in codes
    }
    assert result.metrics["cut_share"] == 1.0
    assert result.metrics["thought_share"] == 1.0


def test_what_begins_after_the_first_shard_stops_the_stage_at_its_end(scene: Scene) -> None:
    with pytest.raises(RepliesUnusable, match="Stopped after 200 of 200 questions"):
        scene.probe(saying(lambda number: knowing_half(number) if number < 2 * SHARD else thinking(number)))


def test_plausible_replies_pass_with_finish_reasons_shares_and_a_diagnosis(scene: Scene) -> None:
    result = scene.probe(saying(lambda number: thinking(number) if number % 25 == 3 else knowing_half(number)))
    rows = list(read_rows(scene.output / SAMPLES_FILE, ProbeRow))
    diagnosis = ProbeDiagnosis.model_validate_json((scene.output / DIAGNOSIS_FILE).read_bytes())

    assert rows[3].finishes == [FinishReason.LENGTH] * 2
    assert rows[4].finishes == [FinishReason.STOP] * 2
    assert result.metrics["cut_share"] == pytest.approx(0.04)
    assert [each.code for each in result.findings] == [FindingCode.REPLIES_WITH_THOUGHTS]
    assert diagnosis.seen.startswith("Of 400 replies to 200 questions 192 are right, 16 were cut")
    assert len(diagnosis.few_known.samples) == len(diagnosis.few_unknown.samples) == 3


def test_a_cut_share_above_a_twentieth_is_a_warning(scene: Scene) -> None:
    result = scene.answer(saying(lambda n: "<think>" if n % 10 == 1 else knowing_half(n)), PromptMode.BASIC)
    rows = list(read_rows(scene.output / REPLIES_FILE, ReplyRow))

    assert [row.finish for row in rows[:2]] == [FinishReason.STOP, FinishReason.LENGTH]
    assert [(each.code, each.severity, each.count) for each in result.findings] == [
        (FindingCode.REPLIES_CUT, Severity.WARNING, 20)
    ]


def test_answers_of_the_base_stop_and_answers_of_an_adapter_may_all_refuse(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    result = scene.answer(saying(lambda _: "I don't know."), PromptMode.REFUSE, adapter=tmp_path / "adapter")
    assert [each.code for each in result.findings] == [FindingCode.REPLIES_ALIKE]


def test_basic_answers_that_all_think_stop_after_the_first_shard(scene: Scene) -> None:
    with pytest.raises(RepliesUnusable, match=r"after 40 of 200 .*limit of 9 new tokens"):
        scene.answer(saying(thinking), PromptMode.BASIC)
    assert len(scene.asked) == SHARD


def test_a_guard_that_does_not_look_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the look after the first shard, the whole stage is paid for before it stops."""
    monkeypatch.setattr(stage_guard.StageGuard, "_look", lambda _: None)
    with pytest.raises(RepliesUnusable, match="after 200 of 200"):
        scene.probe(saying(thinking))
    assert len(scene.asked) == 5 * SHARD
