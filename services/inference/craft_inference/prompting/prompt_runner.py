"""Runs the stages' prompts on an engine, one shard at a time."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from craft.contracts.stages.artifacts import Cost
from craft.contracts.stages.parameters import AnswerParameters, ProbeParameters
from craft.contracts.stages.rows import ProbeRow, ReplyRow
from craft.core.prompts import answer_messages, probe_messages, templates_from
from craft.core.questions import ChoiceQuestion, Question
from craft_inference.engine import Engine, LetterPrompt, OnProgress, Prompt, Sampling, Usage
from craft_inference.shards import Shard


class PromptRun(NamedTuple):
    """A question and the evaluation set to which it belongs."""

    set: str
    question: Question


class Answerer:
    """Runs shards of evaluation sets on one engine."""

    def __init__(self, engine: Engine, parameters: AnswerParameters, adapter: Path | None) -> None:
        templates = templates_from(parameters.prompts.templates)
        self._engine = engine
        self._messages = partial(answer_messages, mode=parameters.mode, templates=templates)
        self._adapter = adapter
        self._sampling = Sampling(max_new_tokens=parameters.max_new_tokens)

    def prompts(self, runs: Iterable[PromptRun]) -> Iterator[Prompt]:
        """The prompt of each question."""
        return (Prompt(run.question.id, tuple(self._messages(run.question))) for run in runs)

    def shard(self, runs: Sequence[PromptRun], on_progress: OnProgress) -> Shard[ReplyRow]:
        """One greedy reply to each question."""
        prompts = list(self.prompts(runs))
        replies = self._engine.generate(prompts, self._sampling, adapter=self._adapter, on_progress=on_progress)
        rows = [
            ReplyRow(set=run.set, id=reply.id, reply=reply.texts[0], finish=reply.finishes[0])
            for run, reply in zip(runs, replies.rows, strict=True)
        ]
        return Shard(rows=rows, cost=_cost(replies.usage))


class Prober:
    """Runs shards of training questions on one engine."""

    def __init__(
        self,
        engine: Engine,
        parameters: ProbeParameters,
        shots: Sequence[Question],
        adapter: Path | None,
    ) -> None:
        settings = parameters.probe
        templates = templates_from(parameters.prompts.templates)
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

    def prompts(self, questions: Iterable[Question]) -> Iterator[Prompt]:
        """The prompt of each question."""
        return (Prompt(question.id, tuple(self._messages(question))) for question in questions)

    def shard(self, questions: Sequence[Question], on_progress: OnProgress) -> Shard[ProbeRow]:
        """Log-probabilities of letters for choice questions, else samples. A dataset has questions of one kind only."""
        choices = [question for question in questions if isinstance(question, ChoiceQuestion)]
        if choices:
            letter_prompts = [LetterPrompt(item.id, tuple(self._messages(item)), item.letters) for item in choices]
            scores = self._engine.letters(letter_prompts, adapter=self._adapter, on_progress=on_progress)
            rows = [ProbeRow(id=row.id, logprobs=list(row.logprobs)) for row in scores.rows]
            return Shard(rows=rows, cost=_cost(scores.usage))
        prompts = list(self.prompts(questions))
        replies = self._engine.generate(prompts, self._sampling, adapter=self._adapter, on_progress=on_progress)
        rows = [ProbeRow(id=row.id, samples=list(row.texts), finishes=list(row.finishes)) for row in replies.rows]
        return Shard(rows=rows, cost=_cost(replies.usage))


def _cost(usage: Usage) -> Cost:
    return Cost(
        seconds=usage.seconds,
        prompt_tokens=usage.prompt_tokens,
        prefilled_tokens=usage.prefilled_tokens,
        generated_tokens=usage.generated_tokens,
    )
