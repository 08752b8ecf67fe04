"""The limits of tokens that a job puts on its rows, and the prompts that have to keep them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from craft.contracts.spec.jobs import JobSpec
from craft.core.prompts import (
    ModelMessage,
    PromptMode,
    PromptTemplates,
    answer_messages,
    probe_messages,
    target,
)
from craft.core.questions import ChoiceQuestion, OpenQuestion, Question, Task
from craft.core.rows.reader import question_from_row
from craft.core.shots import DEFAULT_CHOICE_SHOTS, DEFAULT_OPEN_SHOTS


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `tokens` for a prompt, with `new_tokens` more for the reply or with the target that is taught.

    `setting` is where the limit comes from; `trained` limits hold for the training side of the split only.
    """

    setting: str
    tokens: int
    trained: bool
    new_tokens: int
    messages: Callable[[Question], list[ModelMessage]]
    targets: Callable[[Question], Sequence[str]] = lambda _: ()


def shots_of(spec: JobSpec) -> tuple[Question, ...]:
    """The job's few-shot examples, or the built-in ones. They were checked when the job was read."""
    if spec.probe.shots is None:
        return DEFAULT_CHOICE_SHOTS if spec.task is Task.MULTIPLE_CHOICE else DEFAULT_OPEN_SHOTS
    return tuple(question_from_row(row, task=spec.task) for row in spec.probe.shots)


def limits_of(spec: JobSpec, templates: PromptTemplates, *, context_length: int) -> list[Limit]:
    """All limits of a job: for the probe, the trainings and the evaluation."""
    return [*_training_side(spec, templates, context_length), *_evaluation(spec, templates, context_length)]


def _training_side(spec: JobSpec, templates: PromptTemplates, context_length: int) -> Iterator[Limit]:
    shots = shots_of(spec)
    letters = spec.task is Task.MULTIPLE_CHOICE
    yield Limit(
        setting="probe.max_new_tokens",
        tokens=context_length,
        trained=True,
        new_tokens=1 if letters else spec.probe.max_new_tokens,
        messages=lambda question: probe_messages(question, shots, templates),
    )
    # One token more ends the turn.
    yield Limit(
        setting="training.max_length",
        tokens=min(spec.training.max_length, context_length),
        trained=True,
        new_tokens=1,
        messages=lambda question: answer_messages(question, PromptMode.REFUSE, templates),
        targets=lambda question: (target(question, templates), templates.refusal),
    )
    if any(strategy.needs_flow for strategy in spec.strategies):
        yield Limit(
            setting="rehearsal.training.max_length",
            tokens=min(spec.rehearsal.training.max_length, context_length),
            trained=True,
            new_tokens=1,
            messages=lambda question: answer_messages(question, PromptMode.BASIC, templates),
            targets=lambda question: (target(question, templates),),
        )


def _evaluation(spec: JobSpec, templates: PromptTemplates, context_length: int) -> Iterator[Limit]:
    for mode in PromptMode:
        yield Limit(
            setting="evaluation_settings.max_new_tokens",
            tokens=context_length,
            trained=False,
            new_tokens=spec.evaluation_settings.max_new_tokens,
            messages=lambda question, mode=mode: answer_messages(question, mode, templates),  # type: ignore[misc]
        )


def shortest_question(task: Task) -> Question:
    """A question whose prompt is the overhead of any prompt."""
    if task is Task.MULTIPLE_CHOICE:
        return ChoiceQuestion("shortest", "?", ("a", "b"), 0)
    return OpenQuestion("shortest", "?", ("a",))
