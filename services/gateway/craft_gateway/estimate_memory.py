"""The memory that a job needs, from the model's shapes and the settings of its training and generation."""

from craft.contracts.estimates import Check, CheckOutcome, MemoryEstimate
from craft.contracts.stages import EngineRef
from craft.core.questions import Task
from craft.infra.model_shape import ModelShape, training_bytes
from craft_gateway.plan import ResolvedJob

_ROW_TOKENS = 256
_PROMPT_TOKENS = 256
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
_KEYS_AND_VALUES = frozenset({"k_proj", "v_proj"})


def memory(job: ResolvedJob, shape: ModelShape) -> MemoryEstimate:
    """Bytes at most, of weights, training and generation."""
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
    """Keys and values of one token over all layers."""
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
    """What it needs; which worker has how much is not known to the gateway."""
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
        hint="See that inference and training workers have as much free.",
    )
