"""What a job costs at most, counted from its specification and plan: a pure function."""

import math
from collections.abc import Collection, Sequence

from craft.contracts.estimates import Estimate
from craft.contracts.job import JobSpec, TrainingSettings
from craft.contracts.stages import StageKind
from craft.core.questions import Task
from craft.core.selection import default_rehearsal_count

_SIGMAS = 4.0


def most_trained(spec: JobSpec, questions: int) -> int:
    """The largest training split of so many questions, but for one in 30,000: each one's side is drawn by its hash."""
    held_out = spec.split.held_out_fraction
    likely = questions * (1 - held_out) + _SIGMAS * math.sqrt(questions * held_out * (1 - held_out))
    return min(questions, math.ceil(likely))


def most_rehearsed(spec: JobSpec, questions: int) -> int:
    """The largest rehearsal set that so many questions can give (method.md, step 3)."""
    return min(spec.rehearsal.size or default_rehearsal_count(questions), questions)


def optimiser_steps(training: TrainingSettings, samples: int) -> int:
    """Steps that a training set of this size takes; an epoch's last batch may be small."""
    return training.epochs * math.ceil(samples / training.batch_size)


def estimate(
    spec: JobSpec,
    *,
    questions: int,
    evaluation_questions: int,
    stages: Sequence[StageKind],
    reused: Collection[int] = (),
) -> Estimate:
    """An upper bound. `evaluation_questions` are those of further sets; `reused` are positions in `stages`."""
    held_out = round(questions * spec.split.held_out_fraction)
    train = questions - held_out
    probed = train * sum(kind is StageKind.PROBE for position, kind in enumerate(stages) if position not in reused)
    answers = sum(kind is StageKind.ANSWER for position, kind in enumerate(stages) if position not in reused)
    answered = answers * (held_out + evaluation_questions)
    replies = spec.probe.samples * probed if spec.task is Task.OPEN_ENDED else 0
    tuned = min(train, (spec.selection.n_van or train) + (spec.selection.n_idk or train))
    rehearsed = most_rehearsed(spec, train)
    samples = steps = 0
    for position, kind in enumerate(stages):
        if position not in reused and kind in {StageKind.REHEARSE, StageKind.TUNE}:
            training, size = (
                (spec.rehearsal.training, rehearsed) if kind is StageKind.REHEARSE else (spec.training, tuned)
            )
            samples += training.epochs * size
            steps += optimiser_steps(training, size)
    return Estimate(
        stages=len(stages),
        reused_stages=len(reused),
        train_questions=train,
        held_out_questions=held_out,
        prompts=probed + answered,
        generated_tokens=replies * spec.probe.max_new_tokens + answered * spec.evaluation_settings.max_new_tokens,
        trained_samples=samples,
        optimiser_steps=steps,
    )
