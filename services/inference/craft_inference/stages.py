"""The stages `probe` and `answer`."""

from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path

from craft.contracts.findings import Finding
from craft.contracts.stages.artifacts import Cost, StageResult
from craft.contracts.stages.diagnosis import DIAGNOSIS_FILE
from craft.contracts.stages.names import QUESTIONS, evaluation_sets
from craft.contracts.stages.parameters import AnswerParameters, ProbeParameters
from craft.contracts.stages.rows import (
    ADAPTER_FOLDER,
    HELD_OUT_FILE,
    REPLIES_FILE,
    SAMPLES_FILE,
    TRAIN_FILE,
    ProbeRow,
    QuestionRow,
    ReplyRow,
)
from craft.core.questions import Question, Task
from craft.core.rows.fields import RowInvalid
from craft.core.rows.reader import question_from_row
from craft.core.rows.split import first_examined_shot
from craft.core.shots import DEFAULT_CHOICE_SHOTS, DEFAULT_OPEN_SHOTS
from craft.errors import RequestInvalid
from craft.infra.stage.context import StageContext
from craft.infra.storage.artifacts import read_rows, write_rows
from craft_inference.engine import EngineDescription
from craft_inference.engine_holder import EngineHolder
from craft_inference.prompting.prompt_lengths import check_lengths
from craft_inference.prompting.prompt_runner import Answerer, Prober, PromptRun
from craft_inference.prompting.stage_guard import StageGuard
from craft_inference.shards import Parts, Shard, in_shards, shard_size, total

_ADAPTER = "adapter"


def probe(parameters: ProbeParameters, context: StageContext, *, engines: EngineHolder) -> StageResult:
    """Steps 1 and 5 of the method: N sampled replies, or the letters' log-probabilities, of every training question.

    Writes samples.jsonl in the questions' order, diagnosis.json, and each finished shard to the checkpoint folder.
    Raises RequestInvalid for shots that are no rows of the task or are in the held-out split, ContextTooLong
    before any work, and RepliesUnusable if a guard stops the stage.
    """
    folder = context.input(QUESTIONS)
    rows = list(read_rows(folder / TRAIN_FILE, QuestionRow))
    questions = [row.to_question() for row in rows]
    shots = probe_shots(parameters, _questions(folder / HELD_OUT_FILE))
    guard = StageGuard(parameters, total=len(questions), tuned=_adapter(context) is not None)
    with engines.borrow(parameters.model, parameters.engine) as engine:
        prober = Prober(engine, parameters, shots, _adapter(context))
        needed = check_lengths(
            engine,
            prober.prompts(questions),
            rows,
            new_tokens=1 if parameters.task is Task.MULTIPLE_CHOICE else parameters.probe.max_new_tokens,
            setting="probe.max_new_tokens",
        )

        def run(parts: Parts[Question]) -> Generator[Shard[ProbeRow], None, None]:
            before, of = parts.items_done, len(questions)
            return prober.shards(parts.missing, lambda done, _: context.progress(before + done, of), needed=needed)

        shards = in_shards(
            questions,
            run,
            size=shard_size(
                len(questions),
                replies_each=_replies(parameters),
                new_tokens=parameters.probe.max_new_tokens,
                engine=parameters.engine,
            ),
            folder=context.checkpoint,
            shard_type=Shard[ProbeRow],
            belongs=lambda row, question: row.id == question.id,
            inspect=guard.probed,
            on_saved=context.work_saved,
        )
        description = engine.describe()
    context.progress(len(questions), len(questions))
    findings = guard.findings()
    count = write_rows(context.output / SAMPLES_FILE, (row for shard in shards for row in shard.rows))
    (context.output / DIAGNOSIS_FILE).write_text(guard.diagnosis().model_dump_json(indent=1), encoding="utf-8")
    result = _result({"questions": count}, total([shard.cost for shard in shards]), description)
    return _with_guard(result, guard, findings)


def answer(parameters: AnswerParameters, context: StageContext, *, engines: EngineHolder) -> StageResult:
    """Greedy zero-shot replies to every held-out question, under the BASIC or the REFUSE prompt.

    Reads the held-out file of the role `questions` (the set "held_out") and of each role `questions:<name>` (the set
    `<name>`). Writes replies.jsonl, with the sets in the order of their roles, and each finished shard to the
    checkpoint folder. Raises ContextTooLong before any work, and RepliesUnusable if a guard stops the stage.
    """
    asked = [
        (name, row)
        for name, role in evaluation_sets(sorted(context.inputs)).items()
        for row in read_rows(context.input(role) / HELD_OUT_FILE, QuestionRow)
    ]
    runs = [PromptRun(name, row.to_question()) for name, row in asked]
    guard = StageGuard(parameters, total=len(runs), tuned=_adapter(context) is not None)
    with engines.borrow(parameters.model, parameters.engine) as engine:
        answerer = Answerer(engine, parameters, _adapter(context))
        needed = check_lengths(
            engine,
            answerer.prompts(runs),
            [row for _, row in asked],
            sets=[name for name, _ in asked],
            new_tokens=parameters.max_new_tokens,
            setting="evaluation_settings.max_new_tokens",
        )

        def run(parts: Parts[PromptRun]) -> Generator[Shard[ReplyRow], None, None]:
            before, of = parts.items_done, len(runs)
            return answerer.shards(parts.missing, lambda done, _: context.progress(before + done, of), needed=needed)

        shards = in_shards(
            runs,
            run,
            size=shard_size(len(runs), replies_each=1, new_tokens=parameters.max_new_tokens, engine=parameters.engine),
            folder=context.checkpoint,
            shard_type=Shard[ReplyRow],
            belongs=lambda row, run: (row.set, row.id) == (run.set, run.question.id),
            inspect=lambda shard, rows: guard.answered([run.question for run in shard], rows),
            on_saved=context.work_saved,
        )
        description = engine.describe()
    rows = [row for shard in shards for row in shard.rows]
    context.progress(len(rows), len(runs))
    findings = guard.findings()
    write_rows(context.output / REPLIES_FILE, rows)
    counts = Counter(row.set for row in rows)
    result = _result(dict(counts), total([shard.cost for shard in shards]), description)
    return _with_guard(result, guard, findings)


def probe_shots(parameters: ProbeParameters, held_out: Sequence[Question]) -> tuple[Question, ...]:
    """The job's own shots, or our default ones.

    Raises RequestInvalid if a shot is no row of the task, or is also a question of the evaluation split.
    """
    if parameters.probe.shots is None:
        shots: tuple[Question, ...] = (
            DEFAULT_CHOICE_SHOTS if parameters.task is Task.MULTIPLE_CHOICE else DEFAULT_OPEN_SHOTS
        )
    else:
        shots = tuple(_shot(row, number, parameters.task) for number, row in enumerate(parameters.probe.shots))
    examined = first_examined_shot(shots, held_out)
    if examined is not None:
        raise RequestInvalid(
            f"The shot {examined.question!r} is a question of the evaluation split.",
            hint="Choose shots whose questions are not in the dataset.",
            param="probe.shots",
        )
    return shots


def _shot(row: dict[str, object], number: int, task: Task) -> Question:
    try:
        return question_from_row(row, task=task)
    except RowInvalid as error:
        raise RequestInvalid(f"Shot {number + 1} is not a question: {error}", param="probe.shots") from error


def _replies(parameters: ProbeParameters) -> int:
    """Replies to each question. Letters count as one: they are read in one forward pass."""
    return 1 if parameters.task is Task.MULTIPLE_CHOICE else parameters.probe.samples


def _questions(path: Path) -> list[Question]:
    return [row.to_question() for row in read_rows(path, QuestionRow)]


def _adapter(context: StageContext) -> Path | None:
    return context.input(_ADAPTER) / ADAPTER_FOLDER if _ADAPTER in context.inputs else None


def _with_guard(result: StageResult, guard: StageGuard, findings: list[Finding]) -> StageResult:
    return result.model_copy(update={"metrics": {**result.metrics, **guard.metrics()}, "findings": findings})


def _result(counts: dict[str, int], cost: Cost, engine: EngineDescription) -> StageResult:
    return StageResult(
        counts=counts,
        cost=cost,
        metrics={"generated_tokens_per_second": cost.generated_tokens / cost.seconds} if cost.seconds else {},
        versions={engine.name: engine.version},
        notes=[f"{engine.attention} attention, {engine.dtype} on {engine.device}"],
    )
