"""The stages probe and answer, over a fake engine."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from craft.contracts.spec.jobs import ProbeSettings, PromptSettings
from craft.contracts.stages.artifacts import Cost
from craft.contracts.stages.claims import StageProgress
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
from craft.core.prompts import PromptMode
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question, Task
from craft.core.shots import DEFAULT_OPEN_SHOTS
from craft.errors import ContextTooLong, Internal, ModelRejected, RequestInvalid
from craft.infra.stage.context import LocalContext
from craft.infra.storage.artifacts import read_rows, write_rows
from craft_inference.engine import Engine, LetterPrompt
from craft_inference.engine_holder import EngineHolder
from craft_inference.fake_engine import FakeEngine
from craft_inference.shards import Shard, read_shard, write_shard
from craft_inference.stages import answer, probe

MODEL = ModelRef(id="tiny", revision="main", digest="0" * 64)
ENGINE = EngineRef()
OPEN = [OpenQuestion(f"o{n}", f"What is number {n}?", (str(n),)) for n in range(7)]
CHOICE = [ChoiceQuestion(f"c{n}", f"Which is {n}?", ("x", "y", "z"), 1, "maths") for n in range(5)]
HELD_OUT = [OpenQuestion("h0", "What is held out?", ("it",)), OpenQuestion("h1", "And this?", ("that",))]


def holding(engine: Engine) -> EngineHolder:
    return EngineHolder(lambda *_: engine, lambda ref: Path(ref.id), name="transformers")


def ingested(folder: Path, *, train: Sequence[Question] = (), held_out: Sequence[Question] = ()) -> Path:
    folder.mkdir()
    write_rows(folder / TRAIN_FILE, map(QuestionRow.of, train))
    write_rows(folder / HELD_OUT_FILE, map(QuestionRow.of, held_out))
    return folder


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., LocalContext]:
    """Makes one context for each attempt at a stage: an output folder of its own, one checkpoint folder for all."""
    attempts = iter(range(10))
    (tmp_path / "checkpoint").mkdir()

    def make(inputs: dict[str, Path], on_progress: Callable[[StageProgress], None] = lambda _: None) -> LocalContext:
        output = tmp_path / f"output{next(attempts)}"
        output.mkdir()
        return LocalContext(output, tmp_path / "checkpoint", inputs, on_progress)

    return make


def probing(task: Task = Task.OPEN_ENDED, *, shard: int = 3, **settings: object) -> ProbeParameters:
    return ProbeParameters(
        task=task,
        model=MODEL,
        engine=EngineRef(questions_per_shard=shard),
        probe=ProbeSettings(**settings),
        prompts=PromptSettings(),
        seed=11,
    )


def answering(mode: PromptMode, *, shard: int = 256) -> AnswerParameters:
    return AnswerParameters(
        task=Task.OPEN_ENDED,
        model=MODEL,
        engine=EngineRef(questions_per_shard=shard),
        mode=mode,
        max_new_tokens=9,
        prompts=PromptSettings(),
    )


Contexts = Callable[..., LocalContext]


def test_probe_samples_every_training_question_in_order(tmp_path: Path, context: Contexts) -> None:
    engine = FakeEngine()
    where = context({"questions": ingested(tmp_path / "in", train=OPEN, held_out=HELD_OUT)})
    result = probe(probing(samples=3, temperature=0.5), where, engines=holding(engine))
    rows = list(read_rows(where.output / SAMPLES_FILE, ProbeRow))

    assert [row.id for row in rows] == [question.id for question in OPEN]
    assert all(row.samples is not None and len(row.samples) == 3 and row.logprobs is None for row in rows)
    assert result.counts == {"questions": 7}
    assert result.versions == {"fake": "1"}
    assert {(s.samples, s.temperature, s.seed) for s in engine.samplings} == {(3, 0.5, 11)}


def test_probe_puts_the_shots_before_the_question(tmp_path: Path, context: Contexts) -> None:
    engine = FakeEngine()
    where = context({"questions": ingested(tmp_path / "in", train=OPEN[:1])})
    probe(probing(), where, engines=holding(engine))
    roles = [message.role for message in engine.seen[0].messages]

    assert roles == ["user", "assistant"] * len(DEFAULT_OPEN_SHOTS) + ["user"]
    assert OPEN[0].question in engine.seen[0].messages[-1].content


def test_probe_of_choices_reads_letters_and_samples_nothing(tmp_path: Path, context: Contexts) -> None:
    engine = FakeEngine()
    where = context({"questions": ingested(tmp_path / "in", train=CHOICE)})
    result = probe(probing(Task.MULTIPLE_CHOICE, shard=2), where, engines=holding(engine))
    rows = list(read_rows(where.output / SAMPLES_FILE, ProbeRow))

    assert [row.logprobs for row in rows] == [[-1.0, -2.0, -3.0]] * 5
    assert all(isinstance(prompt, LetterPrompt) and prompt.letters == ("A", "B", "C") for prompt in engine.seen)
    assert result.cost.generated_tokens == 0


def test_a_later_attempt_asks_only_what_is_left(tmp_path: Path, context: Contexts) -> None:
    inputs = {"questions": ingested(tmp_path / "in", train=OPEN)}
    broken, whole, second = FakeEngine(failures={"o5": RuntimeError("killed")}), FakeEngine(), FakeEngine()
    with pytest.raises(RuntimeError, match="killed"):
        probe(probing(shard=2), context(inputs), engines=holding(broken))
    resumed = context(inputs)
    result = probe(probing(shard=2), resumed, engines=holding(second))

    assert [prompt.id for prompt in second.seen] == ["o4", "o5", "o6"]
    fresh = LocalContext(tmp_path / "fresh", tmp_path / "other", inputs)
    fresh.output.mkdir()
    fresh.checkpoint.mkdir()
    assert probe(probing(shard=2), fresh, engines=holding(whole)).cost == result.cost
    assert (resumed.output / SAMPLES_FILE).read_bytes() == (fresh.output / SAMPLES_FILE).read_bytes()


def test_a_torn_shard_is_made_again(tmp_path: Path, context: Contexts) -> None:
    inputs = {"questions": ingested(tmp_path / "in", train=OPEN)}
    first = context(inputs)
    probe(probing(shard=4), first, engines=holding(FakeEngine()))
    torn = sorted(first.checkpoint.glob("shard-*.json"))[1]
    torn.write_bytes(torn.read_bytes()[:20])
    engine = FakeEngine()
    again = context(inputs)
    probe(probing(shard=4), again, engines=holding(engine))

    assert [prompt.id for prompt in engine.seen] == ["o4", "o5", "o6"]
    assert (again.output / SAMPLES_FILE).read_bytes() == (first.output / SAMPLES_FILE).read_bytes()


def test_progress_counts_questions_over_all_shards(tmp_path: Path, context: Contexts) -> None:
    seen: list[StageProgress] = []
    where = context({"questions": ingested(tmp_path / "in", train=OPEN)}, seen.append)
    probe(probing(), where, engines=holding(FakeEngine()))

    assert [progress.done for progress in seen] == [1, 2, 3, 4, 5, 6, 7, 7]
    assert {progress.total for progress in seen} == {7}


def test_probe_with_an_adapter_uses_its_folder(tmp_path: Path, context: Contexts) -> None:
    where = context({"questions": ingested(tmp_path / "in", train=OPEN[:1]), "adapter": tmp_path / "rehearsed"})
    probe(probing(samples=1), where, engines=holding(FakeEngine()))
    (row,) = read_rows(where.output / SAMPLES_FILE, ProbeRow)

    assert row.samples is not None
    assert row.samples[0].endswith("after adapter")


def test_shots_from_the_evaluation_split_are_refused(tmp_path: Path, context: Contexts) -> None:
    where = context({"questions": ingested(tmp_path / "in", train=OPEN, held_out=HELD_OUT)})
    shots = [{"question": " what is HELD out? ", "answers": ["it"]}]

    with pytest.raises(RequestInvalid, match="evaluation split"):
        probe(probing(shots=shots), where, engines=holding(FakeEngine()))


def test_our_own_shots_are_refused_too_where_they_are_examined(tmp_path: Path, context: Contexts) -> None:
    where = context({"questions": ingested(tmp_path / "in", train=OPEN, held_out=DEFAULT_OPEN_SHOTS[:1])})

    with pytest.raises(RequestInvalid, match="evaluation split"):
        probe(probing(), where, engines=holding(FakeEngine()))


def test_a_shot_that_is_no_question_is_named(tmp_path: Path, context: Contexts) -> None:
    where = context({"questions": ingested(tmp_path / "in", train=OPEN)})

    with pytest.raises(RequestInvalid, match="Shot 2 is not a question"):
        probe(
            probing(shots=[{"question": "a?", "answer": "b"}, {"question": "a?"}]),
            where,
            engines=holding(FakeEngine()),
        )


def test_a_prompt_that_is_too_long_fails_the_stage(tmp_path: Path, context: Contexts) -> None:
    engine = FakeEngine(failures={"o2": ContextTooLong("The prompt of o2 has 9000 tokens.")})
    where = context({"questions": ingested(tmp_path / "in", train=OPEN)})

    with pytest.raises(ContextTooLong, match="o2"):
        probe(probing(), where, engines=holding(engine))


def test_answer_replies_greedily_to_every_set(tmp_path: Path, context: Contexts) -> None:
    engine = FakeEngine(say=lambda prompt, *_: f"{prompt.id}!")
    inputs = {
        "questions:other": ingested(tmp_path / "other", held_out=OPEN[:1]),
        "questions": ingested(tmp_path / "in", train=OPEN, held_out=HELD_OUT),
    }
    where = context(inputs)
    result = answer(answering(PromptMode.REFUSE), where, engines=holding(engine))
    rows = list(read_rows(where.output / REPLIES_FILE, ReplyRow))

    assert [(row.set, row.id, row.reply) for row in rows] == [
        ("held_out", "h0", "h0!"),
        ("held_out", "h1", "h1!"),
        ("other", "o0", "o0!"),
    ]
    assert result.counts == {"held_out": 2, "other": 1}
    assert [(s.samples, s.temperature, s.max_new_tokens) for s in engine.samplings] == [(1, 0.0, 9)]


def two_sets(folder: Path) -> dict[str, Path]:
    """Nine questions in two sets that share ids. One of the shards of two has questions of both sets."""
    return {
        "questions": ingested(folder / "in", held_out=OPEN),
        "questions:other": ingested(folder / "other", held_out=OPEN[:2]),
    }


def test_a_later_attempt_at_answering_asks_only_what_is_left(tmp_path: Path, context: Contexts) -> None:
    inputs = two_sets(tmp_path)
    parameters = answering(PromptMode.BASIC, shard=2)
    broken, whole, second = FakeEngine(failures={"o5": RuntimeError("killed")}), FakeEngine(), FakeEngine()
    with pytest.raises(RuntimeError, match="killed"):
        answer(parameters, context(inputs), engines=holding(broken))
    seen: list[StageProgress] = []
    resumed = context(inputs, seen.append)
    result = answer(parameters, resumed, engines=holding(second))

    assert [prompt.id for prompt in second.seen] == ["o4", "o5", "o6", "o0", "o1"]
    assert [progress.done for progress in seen] == [5, 6, 7, 8, 9, 9]
    assert [progress.saved for progress in seen] == [False, False, True, True, True, True], "of this attempt's shards"
    fresh = LocalContext(tmp_path / "fresh", tmp_path / "empty", inputs)
    fresh.output.mkdir()
    fresh.checkpoint.mkdir()
    again = answer(parameters, fresh, engines=holding(whole))
    assert (again.cost, again.counts) == (result.cost, {"held_out": 7, "other": 2})
    assert (resumed.output / REPLIES_FILE).read_bytes() == (fresh.output / REPLIES_FILE).read_bytes()


@pytest.mark.parametrize("shard", [1, 2, 5, 256])
def test_how_answers_are_cut_into_shards_does_not_show(tmp_path: Path, context: Contexts, shard: int) -> None:
    inputs = two_sets(tmp_path)
    where = context(inputs)
    answer(answering(PromptMode.REFUSE, shard=shard), where, engines=holding(FakeEngine()))
    rows = list(read_rows(where.output / REPLIES_FILE, ReplyRow))

    assert [(row.set, row.id) for row in rows] == [
        *(("held_out", question.id) for question in OPEN),
        *(("other", question.id) for question in OPEN[:2]),
    ]


def torn(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def of_other_questions(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def of_a_probe(path: Path, other: Path) -> None:
    rows = [ProbeRow(id=question.id, samples=["x"]) for question in OPEN[2:4]]
    write_shard(path, Shard[ProbeRow](rows=rows, cost=Cost()))


def with_a_row_less(path: Path, other: Path) -> None:
    shard = read_shard(path, Shard[ReplyRow])
    assert shard is not None
    write_shard(path, shard.model_copy(update={"rows": shard.rows[:1]}))


def with_another_reply(path: Path, other: Path) -> None:
    shard = read_shard(path, Shard[ReplyRow])
    assert shard is not None
    reply = shard.rows[0].reply.encode()
    assert reply in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(reply, bytes([reply[0] ^ 1]) + reply[1:], 1))


@pytest.mark.parametrize("harm", [torn, empty, of_other_questions, of_a_probe, with_a_row_less, with_another_reply])
def test_a_shard_that_is_torn_or_foreign_is_made_again(
    tmp_path: Path, context: Contexts, harm: Callable[[Path, Path], None]
) -> None:
    inputs = two_sets(tmp_path)
    parameters = answering(PromptMode.BASIC, shard=2)
    first = context(inputs)
    answer(parameters, first, engines=holding(FakeEngine()))
    shards = sorted(first.checkpoint.glob("shard-*.json"))
    harm(shards[1], shards[2])
    engine, again = FakeEngine(), context(inputs)
    answer(parameters, again, engines=holding(engine))

    assert [prompt.id for prompt in engine.seen] == ["o2", "o3"]
    assert (again.output / REPLIES_FILE).read_bytes() == (first.output / REPLIES_FILE).read_bytes()


@pytest.mark.parametrize(("mode", "offered"), [(PromptMode.BASIC, False), (PromptMode.REFUSE, True)])
def test_only_the_refuse_prompt_offers_the_refusal(
    tmp_path: Path, context: Contexts, mode: PromptMode, offered: bool
) -> None:
    engine = FakeEngine()
    where = context({"questions": ingested(tmp_path / "in", held_out=HELD_OUT)})
    answer(answering(mode), where, engines=holding(engine))

    assert all(len(prompt.messages) == 1 for prompt in engine.seen)
    assert all(("I don't know" in prompt.messages[0].content) is offered for prompt in engine.seen)


def test_a_missing_input_is_an_internal_error(context: Contexts) -> None:
    with pytest.raises(Internal):
        answer(answering(PromptMode.BASIC), context({}), engines=holding(FakeEngine()))


def test_one_model_stays_loaded_until_another_is_asked_for() -> None:
    loads: list[str] = []

    def load(_: ModelRef, folder: Path, ref: EngineRef) -> Engine:
        loads.append(f"{folder} {ref.dtype}")
        return FakeEngine()

    engines = EngineHolder(load, lambda ref: Path(ref.id), name="transformers")
    other = MODEL.model_copy(update={"id": "other"})
    assert engines.current is None
    for model, ref in [(MODEL, ENGINE), (MODEL, ENGINE), (MODEL, EngineRef(dtype="float32")), (other, ENGINE)]:
        with engines.borrow(model, ref):
            assert engines.current is not None
            assert engines.current[0] == model

    assert loads == ["tiny bfloat16", "tiny float32", "other bfloat16"]


def test_another_engine_than_the_jobs_is_refused() -> None:
    with pytest.raises(ModelRejected, match="not vllm"), holding(FakeEngine()).borrow(MODEL, EngineRef(name="vllm")):
        pass
