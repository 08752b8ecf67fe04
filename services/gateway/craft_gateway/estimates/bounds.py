"""Upper bounds of a job's work and memory, computed from its specification by pure functions."""

import math
from collections.abc import Collection, Sequence

from craft.contracts.documents.estimate import Check, CheckOutcome, Estimate, MemoryEstimate
from craft.contracts.spec.jobs import JobSpec, TrainingSettings
from craft.contracts.stages.kinds import FACTS, StageKind, WorkUnit
from craft.contracts.stages.parameters import EngineRef
from craft.core.questions import Task
from craft.core.rehearsal import default_rehearsal_count
from craft.infra.models.shape import ModelShape, training_bytes
from craft_gateway.plan.stages import ResolvedJob

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


_ROW_TOKENS = 256
_PROMPT_TOKENS = 256
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_KEYS_AND_VALUES = frozenset({"k_proj", "v_proj"})


def memory(job: ResolvedJob, shape: ModelShape) -> MemoryEstimate:
    """Return upper bounds, in bytes, of the memory for weights, training and generation."""
    weight_bytes = _BYTES[job.engine.dtype]
    weights = weight_bytes * shape.parameters
    runs = [job.spec.training]
    if any(strategy.needs_flow for strategy in job.spec.strategies):
        runs.append(job.spec.rehearsal.training)
    training = max(
        training_bytes(
            shape,
            settings,
            rows=settings.batch_size,
            tokens_per_row=min(_ROW_TOKENS, settings.max_length),
            answer_tokens_per_row=min(_ROW_TOKENS, settings.max_length),
            weight_bytes=_BYTES[job.trainer.dtype],
        )
        for settings in runs
    )
    inference = weights + weight_bytes * _cached_numbers(shape) * _cached_tokens(job, job.engine)
    return MemoryEstimate(
        parameters=shape.parameters,
        weights_bytes=weights,
        adapter_bytes=4 * max(shape.lora_parameters(settings) for settings in runs),
        training_bytes=training,
        inference_bytes=inference,
        host_bytes=weights,
        device_bytes=max(training, inference),
    )


def _cached_numbers(shape: ModelShape) -> int:
    """Return how many numbers the keys and values of one token have over all layers."""
    named = [
        outputs
        for name, (outputs, _) in shape.matrices.items()
        if name.removesuffix(".weight").rpartition(".")[2] in _KEYS_AND_VALUES
    ]
    return sum(named) or 2 * shape.layers * shape.hidden


def _cached_tokens(job: ResolvedJob, engine: EngineRef) -> int:
    probe = job.spec.probe
    replies = probe.samples * probe.max_new_tokens if job.spec.task is Task.OPEN_ENDED else 1
    return engine.questions_per_batch * (_PROMPT_TOKENS + max(replies, job.spec.evaluation_settings.max_new_tokens))


def memory_check(memory: MemoryEstimate | None) -> Check:
    """Check the memory. The outcome is UNKNOWN: the gateway does not know the workers' memory."""
    if memory is None:
        return Check(
            name="memory",
            outcome=CheckOutcome.UNKNOWN,
            message="The model's shapes cannot be read from its files.",
            hint="config.json needs num_hidden_layers, hidden_size, vocab_size and max_position_embeddings.",
        )
    return Check(
        name="memory",
        outcome=CheckOutcome.UNKNOWN,
        message=f"About {memory.device_bytes / 2**30:.1f} GiB of a worker's accelerator, or of its host without one.",
        hint="Make sure that inference and training workers have as much free.",
    )
