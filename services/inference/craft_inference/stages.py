"""The stages `probe` and `answer`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from craft.contracts.rest_scoring import HELD_OUT
from craft.contracts.rows import (
    ADAPTER_FOLDER,
    HELD_OUT_FILE,
    REPLIES_FILE,
    SAMPLES_FILE,
    TRAIN_FILE,
    ProbeRow,
    QuestionRow,
    ReplyRow,
)
from craft.contracts.stages import AnswerParameters, Cost, ProbeParameters, StageResult
from craft.core.prompts import (
    DEFAULT_CHOICE_SHOTS,
    DEFAULT_OPEN_SHOTS,
    PromptTemplates,
    answer_messages,
    first_examined_shot,
    probe_messages,
    templates_from,
)
from craft.core.questions import ChoiceQuestion, Question, Task, question_from_row
from craft.core.rows import RowInvalid
from craft.errors import RequestInvalid
from craft.infra.artifacts import read_rows, write_rows
from craft.infra.stage import StageContext
from craft_inference.engine import Engine, EngineDescription, LetterPrompt, OnProgress, Prompt, Sampling, Usage
from craft_inference.loaded import LoadedEngine
from craft_inference.shards import Shard, in_shards, total

_QUESTIONS = "questions"
_ADAPTER = "adapter"


def probe(parameters: ProbeParameters, context: StageContext, *, engines: LoadedEngine) -> StageResult:
    """Stage 1, steps 1 and 5: N sampled replies, or the letters' log-probabilities, of every training question.

    Writes samples.jsonl in the questions' order. Every finished shard is kept in the checkpoint folder. Raises
    RequestInvalid for shots that are no rows of the task or stand in the held-out split, ContextTooLong with the id.
    """
    templates = templates_from(parameters.prompts.templates)
    folder = context.input(_QUESTIONS)
    questions = _questions(folder / TRAIN_FILE)
    shots = probe_shots(parameters, _questions(folder / HELD_OUT_FILE))
    with engines.lent(parameters.model, parameters.engine) as engine:
        prober = _Prober(engine, parameters, shots, templates, _adapter(context))

        def work(shard: Sequence[Question], before: int) -> Shard:
            return prober.shard(shard, lambda done, _: context.progress(before + done, len(questions)))

        shards = in_shards(questions, parameters.engine.questions_per_shard, context.checkpoint, work)
        description = engine.describe()
    rows = [row for shard in shards for row in shard.rows]
    context.progress(len(rows), len(questions))
    count = write_rows(context.output / SAMPLES_FILE, rows)
    return _result({"questions": count}, total([shard.cost for shard in shards]), description)


def answer(parameters: AnswerParameters, context: StageContext, *, engines: LoadedEngine) -> StageResult:
    """Greedy zero-shot replies to every held-out question, under the BASIC or the REFUSE prompt.

    Reads the held-out file of the role `questions` (the set "held_out") and of each `questions:<name>` (the set
    `<name>`); writes replies.jsonl, the sets in the order of their roles. Raises ContextTooLong with the id.
    """
    templates = templates_from(parameters.prompts.templates)
    asked = [
        (name, question)
        for name, folder in evaluation_sets(context).items()
        for question in _questions(folder / HELD_OUT_FILE)
    ]
    prompts = [
        Prompt(question.id, tuple(answer_messages(question, parameters.mode, templates))) for _, question in asked
    ]
    with engines.lent(parameters.model, parameters.engine) as engine:
        replies = engine.generate(
            prompts,
            Sampling(max_new_tokens=parameters.max_new_tokens),
            adapter=_adapter(context),
            on_progress=context.progress,
        )
        description = engine.describe()
    rows = [
        ReplyRow(set=name, id=reply.id, reply=reply.texts[0])
        for (name, _), reply in zip(asked, replies.rows, strict=True)
    ]
    counts = {name: sum(row.set == name for row in rows) for name, _ in asked}
    write_rows(context.output / REPLIES_FILE, rows)
    return _result(counts, _cost(replies.usage), description)


def evaluation_sets(context: StageContext) -> dict[str, Path]:
    """Input folders by the name of their evaluation set: the job's own held-out split first, the others by name."""
    others = {
        role.removeprefix(f"{_QUESTIONS}:"): folder
        for role, folder in sorted(context.inputs.items())
        if role.startswith(f"{_QUESTIONS}:")
    }
    return {HELD_OUT: context.input(_QUESTIONS), **others}


def probe_shots(parameters: ProbeParameters, held_out: Sequence[Question]) -> tuple[Question, ...]:
    """The job's own shots, or ours.

    Raises RequestInvalid where one is no row of the task, or asks what the evaluation split asks.
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
            hint="Choose shots that are not in the dataset, or from its training split.",
            param="probe.shots",
        )
    return shots


def _shot(row: dict[str, object], number: int, task: Task) -> Question:
    try:
        return question_from_row(row, task=task)
    except RowInvalid as error:
        raise RequestInvalid(f"Shot {number + 1} is not a question: {error}", param="probe.shots") from error


class _Prober:
    """Asks one engine about shards of questions."""

    def __init__(
        self,
        engine: Engine,
        parameters: ProbeParameters,
        shots: Sequence[Question],
        templates: PromptTemplates,
        adapter: Path | None,
    ) -> None:
        settings = parameters.probe
        self._engine = engine
        self._messages = partial(probe_messages, shots=shots, templates=templates)
        self._adapter = adapter
        self._sampling = Sampling(
            max_new_tokens=settings.max_new_tokens,
            samples=settings.samples,
            temperature=settings.temperature,
            top_p=settings.top_p,
            seed=parameters.seed,
        )

    def shard(self, questions: Sequence[Question], on_progress: OnProgress) -> Shard:
        """Letters where there are choices, else samples; a dataset holds one of the two kinds."""
        choices = [question for question in questions if isinstance(question, ChoiceQuestion)]
        if choices:
            prompts = [LetterPrompt(item.id, tuple(self._messages(item)), item.letters) for item in choices]
            scores = self._engine.letters(prompts, adapter=self._adapter, on_progress=on_progress)
            rows = [ProbeRow(id=row.id, logprobs=list(row.logprobs)) for row in scores.rows]
            return Shard(rows=rows, cost=_cost(scores.usage))
        asked = [Prompt(question.id, tuple(self._messages(question))) for question in questions]
        replies = self._engine.generate(asked, self._sampling, adapter=self._adapter, on_progress=on_progress)
        rows = [ProbeRow(id=row.id, samples=list(row.texts)) for row in replies.rows]
        return Shard(rows=rows, cost=_cost(replies.usage))


def _questions(path: Path) -> list[Question]:
    return [row.to_question() for row in read_rows(path, QuestionRow)]


def _adapter(context: StageContext) -> Path | None:
    return context.input(_ADAPTER) / ADAPTER_FOLDER if _ADAPTER in context.inputs else None


def _cost(usage: Usage) -> Cost:
    return Cost(
        seconds=usage.seconds,
        prompt_tokens=usage.prompt_tokens,
        prefilled_tokens=usage.prefilled_tokens,
        generated_tokens=usage.generated_tokens,
    )


def _result(counts: dict[str, int], cost: Cost, engine: EngineDescription) -> StageResult:
    return StageResult(
        counts=counts,
        cost=cost,
        metrics={"generated_tokens_per_second": cost.generated_tokens / cost.seconds} if cost.seconds else {},
        versions={engine.name: engine.version},
        notes=[f"{engine.attention} attention, {engine.dtype} on {engine.device}"],
    )
