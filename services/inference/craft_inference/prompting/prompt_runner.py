"""Runs the stages' prompts on an engine, shard after shard."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, tee
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

    def shards(
        self, parts: Iterator[Sequence[PromptRun]], on_progress: OnProgress, *, needed: int
    ) -> Generator[Shard[ReplyRow], None, None]:
        """A shard of one greedy reply to each question, for each part. `needed` as in `Engine.generate_each`."""
        parts, given = tee(parts)
        batches = (list(self.prompts(runs)) for runs in given)
        with closing(
            self._engine.generate_each(
                batches, self._sampling, needed=needed, adapter=self._adapter, on_progress=on_progress
            )
        ) as each:
            for replies, runs in zip(each, parts, strict=False):  # the parts' end is not looked for
                rows = [
                    ReplyRow(set=run.set, id=reply.id, reply=reply.texts[0], finish=reply.finishes[0])
                    for run, reply in zip(runs, replies.rows, strict=True)
                ]
                yield Shard(rows=rows, cost=_cost(replies.usage))


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

    def shards(
        self, parts: Iterator[Sequence[Question]], on_progress: OnProgress, *, needed: int
    ) -> Generator[Shard[ProbeRow], None, None]:
        """A shard for each part: log-probabilities of letters for choice questions, else samples.

        A dataset has questions of one kind only. `needed` as in `Engine.generate_each`.
        """
        first = next(parts, None)
        if first is not None:
            run = self._letters if isinstance(first[0], ChoiceQuestion) else self._samples
            yield from run(chain([first], parts), on_progress, needed)

    def _letters(
        self, parts: Iterator[Sequence[Question]], on_progress: OnProgress, needed: int
    ) -> Generator[Shard[ProbeRow], None, None]:
        batches = (
            [
                LetterPrompt(item.id, tuple(self._messages(item)), item.letters)
                for item in part
                if isinstance(item, ChoiceQuestion)
            ]
            for part in parts
        )
        with closing(
            self._engine.letters_each(batches, needed=needed, adapter=self._adapter, on_progress=on_progress)
        ) as each:
            for scores in each:
                rows = [ProbeRow(id=row.id, logprobs=list(row.logprobs)) for row in scores.rows]
                yield Shard(rows=rows, cost=_cost(scores.usage))

    def _samples(
        self, parts: Iterator[Sequence[Question]], on_progress: OnProgress, needed: int
    ) -> Generator[Shard[ProbeRow], None, None]:
        batches = (list(self.prompts(part)) for part in parts)
        with closing(
            self._engine.generate_each(
                batches, self._sampling, needed=needed, adapter=self._adapter, on_progress=on_progress
            )
        ) as each:
            for replies in each:
                rows = [
                    ProbeRow(id=row.id, samples=list(row.texts), finishes=list(row.finishes)) for row in replies.rows
                ]
                yield Shard(rows=rows, cost=_cost(replies.usage))


def _cost(usage: Usage) -> Cost:
    return Cost(
        seconds=usage.seconds,
        prompt_tokens=usage.prompt_tokens,
        prefilled_tokens=usage.prefilled_tokens,
        generated_tokens=usage.generated_tokens,
    )
