"""The memory that a job needs, from the model's shapes and the dataset's own lengths, by pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from craft.contracts.documents.estimate import Check, CheckOutcome, MemoryEstimate
from craft.contracts.services.datasets import DatasetStatistics
from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.parameters import EngineRef
from craft.core.questions import Task
from craft.infra.models.shape import ModelShape
from craft.infra.models.training_memory import training_bytes
from craft_gateway.plan.stages import ResolvedJob

_CHARACTERS_PER_TOKEN = 2
"""Fewer than in common languages, so that the estimate is rather too high."""
_TEMPLATE_TOKENS = 100
"""Prompt and chat template before a question. In training, a batch has them once."""
_TAIL_TOKENS = 10
"""Those of the templates after a question."""
_SHOTS_TOKENS = 256
_DEFAULT_TOKENS = 128
"""Those of a question, and of an answer, where the dataset's lengths are not known."""
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_KEYS_AND_VALUES = frozenset({"k_proj", "v_proj"})


@dataclass(frozen=True, slots=True)
class RowTokens:
    """Tokens of a dataset's questions and answers: of the longest, and of all but one in twenty."""

    question_max: int = _DEFAULT_TOKENS
    question_p95: int = _DEFAULT_TOKENS
    answer_max: int = _DEFAULT_TOKENS
    answer_p95: int = _DEFAULT_TOKENS

    @classmethod
    def of(cls, statistics: Sequence[DatasetStatistics]) -> "RowTokens":
        """The tokens of the datasets together; those that are not known for none."""
        if not statistics:
            return cls()
        return cls(
            question_max=max(_tokens(each.question_characters.max) for each in statistics),
            question_p95=max(_tokens(each.question_characters.p95) for each in statistics),
            answer_max=max(_tokens(each.answer_characters.max) for each in statistics),
            answer_p95=max(_tokens(each.answer_characters.p95) for each in statistics),
        )


def memory(
    job: ResolvedJob, shape: ModelShape, rows: RowTokens, *, measured_bytes: int | None = None
) -> MemoryEstimate:
    """Return the memory, in bytes, for weights, training and generation.

    `measured_bytes`: the most that past stages with this model took, if any ran.
    """
    weight_bytes = _BYTES[job.engine.dtype]
    weights = weight_bytes * shape.parameters
    runs = [job.spec.training]
    if any(strategy.needs_flow for strategy in job.spec.strategies):
        runs.append(job.spec.rehearsal.training)
    training = max(_training_bytes(job, shape, rows, settings) for settings in runs)
    inference = weights + weight_bytes * _cached_numbers(shape) * _cached_tokens(job, job.engine, rows)
    return MemoryEstimate(
        parameters=shape.parameters,
        weights_bytes=weights,
        adapter_bytes=4 * max(shape.lora_parameters(settings) for settings in runs),
        training_bytes=training,
        inference_bytes=inference,
        host_bytes=weights,
        device_bytes=max(training, inference),
        row_tokens=_TEMPLATE_TOKENS + rows.question_max + _TAIL_TOKENS + _answer_tokens(job, rows.answer_max),
        measured_bytes=measured_bytes,
    )


def _training_bytes(job: ResolvedJob, shape: ModelShape, rows: RowTokens, settings: TrainingSettings) -> int:
    """The greater of two peaks: of a whole batch of usual rows, and of the longest row alone."""
    usual = (settings.batch_size, rows.question_p95, _answer_tokens(job, rows.answer_p95))
    longest = (1, rows.question_max, _answer_tokens(job, rows.answer_max))
    return max(
        training_bytes(
            shape,
            settings,
            rows=count,
            tokens_per_row=min(
                math.ceil(_TEMPLATE_TOKENS / count) + question + _TAIL_TOKENS + answer, settings.max_length
            ),
            answer_tokens_per_row=min(answer, settings.max_length),
            weight_bytes=_BYTES[job.trainer.dtype],
            device=job.trainer.device,
        )
        for count, question, answer in (usual, longest)
    )


def _answer_tokens(job: ResolvedJob, of_dataset: int) -> int:
    """The tokens of a target: the dataset's answer, or one of the model's own replies."""
    own = job.spec.probe.max_new_tokens if job.spec.task is Task.OPEN_ENDED else 1
    return max(of_dataset, own)


def _tokens(characters: int) -> int:
    return max(1, math.ceil(characters / _CHARACTERS_PER_TOKEN))


def _cached_numbers(shape: ModelShape) -> int:
    """Return how many numbers the keys and values of one token have over all layers."""
    named = [
        outputs
        for name, (outputs, _) in shape.matrices.items()
        if name.removesuffix(".weight").rpartition(".")[2] in _KEYS_AND_VALUES
    ]
    return sum(named) or 2 * shape.layers * shape.hidden


def _cached_tokens(job: ResolvedJob, engine: EngineRef, rows: RowTokens) -> int:
    probe = job.spec.probe
    replies = probe.samples * probe.max_new_tokens if job.spec.task is Task.OPEN_ENDED else 1
    prompt = _TEMPLATE_TOKENS + _SHOTS_TOKENS + rows.question_max
    return engine.questions_per_batch * (prompt + max(replies, job.spec.evaluation_settings.max_new_tokens))


def memory_check(memory: MemoryEstimate | None, *, device_bytes: int | None = None) -> Check:
    """Check the memory. The outcome is UNKNOWN where the memory of the training device, `device_bytes`, is not known.

    More than it holds is no error: passes are then smaller. What cannot fit at all was refused before.
    """
    if memory is None:
        return Check(
            name="memory",
            outcome=CheckOutcome.UNKNOWN,
            message="The model's shapes cannot be read from its files.",
            hint="config.json needs num_hidden_layers, hidden_size, vocab_size and max_position_embeddings.",
        )
    measured = "No stage with this model has run here yet."
    if memory.measured_bytes is not None:
        measured = f"Past stages with this model took at most {_gib(memory.measured_bytes)} of the host's memory here."
    if device_bytes is not None and memory.training_bytes <= device_bytes:
        return Check(
            name="memory",
            outcome=CheckOutcome.PASSED,
            message=f"Training takes about {_gib(memory.training_bytes)} of its device's {_gib(device_bytes)}, for "
            f"rows of at most {memory.row_tokens:,} tokens, {_CHARACTERS_PER_TOKEN} characters a token. {measured}",
        )
    return Check(
        name="memory",
        outcome=CheckOutcome.UNKNOWN,
        message=f"About {_gib(memory.device_bytes)} of a worker's accelerator, or of its host without one, for "
        f"rows of at most {memory.row_tokens:,} tokens, {_CHARACTERS_PER_TOKEN} characters a token. {measured}",
        hint="Where training has less, it cuts a batch into smaller passes and uses gradient checkpointing.",
    )


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
