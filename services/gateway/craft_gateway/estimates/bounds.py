"""Upper bounds of a job's work, computed from its specification by pure functions."""

import math
from collections.abc import Collection, Sequence

from craft.contracts.documents.estimate import Estimate
from craft.contracts.spec.jobs import JobSpec, TrainingSettings
from craft.contracts.stages.kinds import FACTS, StageKind, WorkUnit
from craft.core.questions import Task
from craft.core.rehearsal import default_rehearsal_count

_SIGMAS = 4.0


def max_trained(spec: JobSpec, questions: int) -> int:
    """Return the size that the training split of so many questions does not exceed, except once in 30,000 splits.

    The hash of each question decides its side, so the size of the split varies.
    """
    held_out = spec.split.held_out_fraction
    likely = questions * (1 - held_out) + _SIGMAS * math.sqrt(questions * held_out * (1 - held_out))
    return min(questions, math.ceil(likely))


def max_rehearsed(spec: JobSpec, questions: int) -> int:
    """Return the size of the largest rehearsal set from so many questions (method.md, step 3)."""
    return min(spec.rehearsal.size or default_rehearsal_count(questions), questions)


def optimiser_steps(training: TrainingSettings, samples: int) -> int:
    """Return the steps that training on so many samples takes; the last batch of an epoch may be small."""
    return training.epochs * math.ceil(samples / training.batch_size)


def upper_bounds(
    spec: JobSpec,
    *,
    questions: int,
    evaluation_questions: int,
    stages: Sequence[StageKind],
    reused: Collection[int] = (),
) -> Estimate:
    """Return an upper bound of the job's work.

    `evaluation_questions` counts the questions of further sets; `reused` are positions in `stages`.
    """
    held_out = round(questions * spec.split.held_out_fraction)
    train = questions - held_out
    computed = [FACTS[kind] for position, kind in enumerate(stages) if position not in reused]
    asking = [facts.unit for facts in computed if facts.needs_model]
    probed = asking.count(WorkUnit.PROBE_REPLIES) * train
    answered = asking.count(WorkUnit.EVALUATION_QUESTIONS) * (held_out + evaluation_questions)
    replies = spec.probe.samples * probed if spec.task is Task.OPEN_ENDED else 0
    tuned = min(train, (spec.selection.n_van or train) + (spec.selection.n_idk or train))
    rehearsed = max_rehearsed(spec, train)
    runs = {
        WorkUnit.REHEARSED_SAMPLES: (spec.rehearsal.training, rehearsed),
        WorkUnit.TUNED_SAMPLES: (spec.training, tuned),
    }
    samples = steps = 0
    for facts in computed:
        if facts.unit.trained:
            training, size = runs[facts.unit]
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
