"""Checks of a job before anything runs: pure functions, each raises its own error."""

import json

from craft.contracts.documents.estimate import Check, CheckName, CheckOutcome
from craft.contracts.spec.jobs import JobSpec, PromptSettings, Quantization
from craft.contracts.stages.rows import QuestionRow
from craft.core.judging.refusals import is_refusal, wording_for
from craft.core.prompts import templates_from
from craft.core.rows.fields import RowInvalid
from craft.core.rows.reader import question_from_row
from craft.errors import ContextTooLong, DatasetInvalid, ModelRejected, RehearsalTooShort, RequestInvalid
from craft.infra.models.folders import ModelFolder
from craft.infra.models.shape import ModelShape
from craft.infra.settings.inference import VllmSettings
from craft_gateway.estimates.bounds import max_rehearsed, max_trained, optimiser_steps

_OWN_PROMPTS = PromptSettings()
_MIN_ROWS = 2
_MAX_SHOT_BYTES = 100_000
_SHOWN_LAYERS = 20
_MAX_PARAM_LENGTH = 200
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_NOT_LINEAR = frozenset({"lm_head", "embed_out", "embed_tokens", "embed_in", "wte", "wpe", "embedding"})
"""Names of heads and embeddings in the architectures. Many models tie the two, so an adapter on one would change
the other; vLLM adapts them for some architectures only, and linear layers for all."""


def check_wording(spec: JobSpec) -> None:
    """Raises RequestInvalid for templates, language or refusals that cannot be used."""
    if spec.prompts == _OWN_PROMPTS:
        return
    try:
        templates = templates_from(spec.prompts.templates)
    except RequestInvalid as error:
        error.param = f"prompts.templates.{error.param}"[:_MAX_PARAM_LENGTH]
        raise
    wording = wording_for(spec.prompts.language, spec.prompts.extra_refusals)
    if not is_refusal(templates.refusal, wording):
        # Otherwise every refusal that the model is taught would be judged a wrong answer.
        raise RequestInvalid(
            f"The refusal that is taught, {templates.refusal[:80]!r}, would not be recognised as one.",
            hint="Add its words to prompts.extra_refusals.",
            param="prompts.templates.refusal",
        )


def checked_shots(spec: JobSpec) -> list[dict[str, object]] | None:
    """The job's own few-shot examples in the normal form of rows, without unread columns.

    Raises DatasetInvalid, and RequestInvalid for more than 100 kB.
    """
    if spec.probe.shots is None:
        return None
    good, bad = [], []
    for line, row in enumerate(spec.probe.shots, start=1):
        try:
            question = question_from_row(row, task=spec.task)
        except RowInvalid as error:
            bad.append(error.detail(line))
        else:
            good.append(QuestionRow.of(question).model_dump(exclude_none=True))
    size = len(json.dumps(good, ensure_ascii=False).encode())
    if size > _MAX_SHOT_BYTES:
        raise RequestInvalid(
            f"The few-shot examples have {size:,} bytes; {_MAX_SHOT_BYTES:,} are the most, as each prompt holds them.",
            hint="Send fewer or shorter ones.",
            param="probe.shots",
        )
    if bad:
        raise DatasetInvalid(
            f"{len(bad)} of the few-shot examples cannot be used.",
            hint="They have the form of the dataset's rows; leave `probe.shots` out for the built-in ones.",
            param="probe.shots",
            details=bad,
        )
    return good


def check_lengths(spec: JobSpec, model: ModelFolder, vllm: VllmSettings | None) -> None:
    """Raises ContextTooLong if a reply alone would fill the model's context as it is served here."""
    length = served_length(model, vllm)
    wanted = {
        "probe.max_new_tokens": spec.probe.max_new_tokens,
        "evaluation_settings.max_new_tokens": spec.evaluation_settings.max_new_tokens,
    }
    for param, tokens in wanted.items():
        if tokens >= length:
            raise ContextTooLong(
                f"{tokens} new tokens leave no room for a prompt in {model.ref.id}'s {length} tokens.",
                hint=f"Lower {param}.",
                param=param,
            )


def served_length(model: ModelFolder, vllm: VllmSettings | None) -> int:
    """The model's context as it is served here, in tokens."""
    limit = vllm.max_model_len if vllm else None
    return min(model.context_length, limit) if isinstance(limit, int) else model.context_length


def check_target_modules(spec: JobSpec, shape: ModelShape) -> None:
    """Raises RequestInvalid if a layer that is to be adapted is not in the model."""
    layers = {name.removesuffix(".weight") for name in shape.adaptable}
    if not layers:
        return
    for path, training in (("training", spec.training), ("rehearsal.training", spec.rehearsal.training)):
        wanted = [] if training.target_modules == "all-linear" else training.target_modules
        # Heads and embeddings are not layers, and many files leave a tied head out.
        asked = [name for name in wanted if name.rpartition(".")[2] not in _NOT_LINEAR]
        absent = [name for name in asked if not any(f".{layer}".endswith(f".{name}") for layer in layers)]
        if absent:
            names = ", ".join(sorted({layer.rpartition(".")[2] for layer in layers})[:_SHOWN_LAYERS])
            raise RequestInvalid(
                f"The model has no layer called {absent[0][:80]}.",
                hint=f"It has {names}; or leave {path}.target_modules at all-linear.",
                param=f"{path}.target_modules",
            )


def check_tokenizer(model: ModelFolder) -> None:
    """Raises ModelRejected for a folder that holds no tokenizer: nothing could be asked of the model."""
    if not any((model.path / name).is_file() for name in _TOKENIZERS):
        raise ModelRejected(
            f"{model.ref.id} has no tokenizer.",
            hint=f"Put one of {', '.join(_TOKENIZERS)} into the model's folder: `tokenizer.save_pretrained` does.",
            param="base_model",
        )


def passed_checks(spec: JobSpec, *, vllm: VllmSettings | None) -> list[Check]:
    """The checks that passed, in words: those of this file and those of the model's folder."""
    served = f"vLLM serves adapters of rank {spec.training.lora_r} here." if vllm else "The engine takes any adapter."
    messages: dict[CheckName, str] = {
        "model": f"{spec.base_model.id} is a causal language model of safetensors that needs no code of its own.",
        "tokenizer": "Tokenizer and chat template are there; the template was tried.",
        "context": "Replies of the length asked for leave room for a prompt.",
        "lora": served,
    }
    return [Check(name=name, outcome=CheckOutcome.PASSED, message=message) for name, message in messages.items()]


def check_servable(spec: JobSpec, vllm: VllmSettings) -> None:
    """Raises RequestInvalid for an adapter that vLLM, set up so, would refuse to load."""
    for path, training in (("training", spec.training), ("rehearsal.training", spec.rehearsal.training)):
        if training.lora_r > vllm.max_lora_rank:
            raise RequestInvalid(
                f"Rank {training.lora_r} is above the {vllm.max_lora_rank} that this installation serves.",
                hint=f"Lower {path}.lora_r, or have CRAFT_INFERENCE__VLLM__MAX_LORA_RANK raised.",
                param=f"{path}.lora_r",
            )
        if training.target_modules == "all-linear":
            continue
        # PEFT takes a module's last names or its whole path.
        bad = [name for name in training.target_modules if name.rpartition(".")[2] in _NOT_LINEAR]
        if bad:
            raise RequestInvalid(
                f"vLLM serves no adapter of {', '.join(bad)[:200]}.",
                hint=f"Name linear layers only in {path}.target_modules, or leave it at all-linear; another engine "
                "(CRAFT_INFERENCE__ENGINE) has no such limit.",
                param=f"{path}.target_modules",
            )


def check_quantization(spec: JobSpec, *, nf4: bool) -> None:
    """Raises RequestInvalid for training in 4 bits where the training workers cannot do it."""
    if spec.training.quantization is Quantization.NF4 and not nf4:
        raise RequestInvalid(
            "This installation cannot train on weights of 4 bits: its training workers have no bitsandbytes.",
            hint="Leave training.quantization at none: training uses gradient checkpointing where memory is short. Or "
            "have bitsandbytes installed (the extra `nf4`) and CRAFT_TRAINING__NF4 set.",
            param="training.quantization",
        )


def check_sizes(spec: JobSpec, questions: int) -> None:
    """Raises if no split of this many questions can let the job succeed: better now than hours later."""
    if questions < _MIN_ROWS:
        raise DatasetInvalid(
            "One row cannot be split into a training and a held-out part.",
            hint="Send at least two rows; a useful set has hundreds.",
            param="dataset",
        )
    if not any(strategy.needs_flow for strategy in spec.strategies):
        return
    training = spec.rehearsal.training
    largest = max_rehearsed(spec, max_trained(spec, questions))
    steps = optimiser_steps(training, largest)
    if steps < training.min_steps:
        raise RehearsalTooShort(
            f"Rehearsing at most {largest} questions takes {steps} optimiser steps; {training.min_steps} are needed.",
            hint="Raise rehearsal.size or rehearsal.training.epochs, lower rehearsal.training.batch_size, or add data.",
            param="rehearsal",
        )
