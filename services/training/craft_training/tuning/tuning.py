"""One training run: LoRA on a base model (method.md, steps 4 and 9), reproducible by its seed, and resumable."""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import torch
import transformers
from peft import LoraConfig
from transformers import TrainingArguments

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.rows import CurveRow
from craft.errors import Internal
from craft.infra.models.loading import architecture_in
from craft.infra.models.shape import is_attention
from craft.infra.models.training_memory import training_memory
from craft.infra.stage.context import StopRequest
from craft_training.base_models import BaseModel, adapted
from craft_training.estimates import steps_of
from craft_training.model_shape import shape_of
from craft_training.packaging.adapter_files import write_adapter
from craft_training.tuning.answer_trainer import AnswerTrainer, PassCounts, StepLog, StepWatch
from craft_training.tuning.batches import may_pack
from craft_training.tuning.checkpoints import Checkpoints
from craft_training.tuning.device_memory import check_rows, device_memory, first_limits, peak_bytes, watch_peak
from craft_training.tuning.passes import Cutter, PassLimits
from craft_training.tuning.recomputing import may_checkpoint
from craft_training.tuning.samples import Sample
from craft_training.tuning.tuning_guard import check_change, check_losses

OnStep = Callable[[CurveRow, int], None]
"""Called with each optimiser step's row and the number of steps in all."""


@dataclass(frozen=True, slots=True)
class TuningRun:
    """The samples, settings and seed of a run.

    On CPU two equal runs give the same adapter, to the bit with as many threads. On CUDA they give almost the same one:
    the backward pass of memory-efficient attention adds in an order that varies, so roundings differ. Where memory runs
    out, passes are cut smaller: without LoRA dropout the adapter is the same but for roundings, with dropout it is that
    of a run whose passes had this size from that step on, since one mask is drawn for each pass.
    """

    samples: Sequence[Sample]
    settings: TrainingSettings
    seed: int

    @property
    def steps(self) -> int:
        """The optimiser steps of the whole run."""
        return steps_of(len(self.samples), self.settings)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the whole run. A checkpoint fits only the run with the same fingerprint."""
        whole = [self.seed, self.settings.model_dump(), [[s.tokens, s.prompt_length] for s in self.samples]]
        return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class Tuned:
    """The result of a run. `resumed_at` is the last step of the checkpoint that it resumed (0: from the start).

    `passes` are those of this attempt, and `peak_bytes` what tensors took on an accelerator in it (0 on CPU).
    """

    curve: list[CurveRow]
    seconds: float
    resumed_at: int
    trainable_parameters: int
    passes: PassCounts
    peak_bytes: int


def tune(
    base: BaseModel,
    run: TuningRun,
    *,
    adapter: Path,
    checkpoints: Path,
    checkpoint_seconds: float,
    on_step: OnStep,
    on_saved: Callable[[], None],
    stop: StopRequest,
) -> Tuned:
    """Train, and write the adapter into `adapter`. Resume from the newest whole checkpoint below `checkpoints`.

    `on_saved` is called after each checkpoint. After a stop request it ends the current step, writes a checkpoint and
    raises SystemExit. In all cases the base model is restored. Raises TuningUnusable if the loss is not finite or ends
    at 0.0, or the adapter changes nothing.
    """
    # Another version of the libraries may store its state, and draw its random numbers, in another way.
    versions = f"{torch.__version__}:{transformers.__version__}"
    fingerprint = f"{base.ref.digest}:{base.model.dtype}:{versions}:{run.fingerprint}"
    saved = Checkpoints(checkpoints, fingerprint=fingerprint)
    resumed = saved.latest()
    curve = resumed[1].curve if resumed else []
    cutter = _cutter(base, run.settings)
    found = device_memory(base.model.device)
    check_rows(run.samples, cutter, found)
    limits = (resumed[1].limits if resumed else None) or first_limits(cutter.memory, found)
    recorder = _Recorder(saved, checkpoint_seconds, curve, run.steps, on_step, on_saved)
    transformers.set_seed(run.seed)  # LoRA's initial weights are drawn before the Trainer sets its seed.
    watch_peak(base.model.device)
    with adapted(base, _lora(base, run.settings)) as model:
        trainer = _trainer(base, model, run, cutter, limits, output=saved.writing)
        trainer.add_callback(_watch(recorder, trainer, stop))
        with stop.defer_stop():
            trainer.train(resume_from_checkpoint=str(resumed[0]) if resumed else None)
        if trainer.state.global_step != run.steps:
            raise Internal(f"Training ended at step {trainer.state.global_step} of {run.steps}.")
        check_losses(recorder.curve, run.samples, epochs=run.settings.epochs)
        check_change(model, run.samples, autocast=trainer.autocast, max_tokens=trainer.counts.largest)
        write_adapter(model, adapter, base_model_id=base.ref.id)
        trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        trainer.accelerator.free_memory()
    return Tuned(
        curve=recorder.curve,
        seconds=recorder.curve[-1].seconds,
        resumed_at=recorder.resumed_at,
        trainable_parameters=trainable,
        passes=trainer.counts,
        peak_bytes=peak_bytes(base.model.device),
    )


class _Recorder:
    """Records the curve, counts the seconds of all attempts, and decides when a checkpoint is due."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        every_seconds: float,
        curve: list[CurveRow],
        steps: int,
        on_step: OnStep,
        on_saved: Callable[[], None],
    ) -> None:
        self.curve = list(curve)
        self.resumed_at = curve[-1].step if curve else 0
        self._checkpoints = checkpoints
        self._every_seconds = every_seconds
        self._steps = steps
        self._on_step = on_step
        self._on_saved = on_saved
        self._began = time.monotonic() - (curve[-1].seconds if curve else 0.0)
        self._saved = time.monotonic()

    def step(self, step: int, log: StepLog) -> None:
        row = CurveRow(
            step=step,
            epoch=log["epoch"],
            loss=log["loss"],
            learning_rate=log["learning_rate"],
            gradient_norm=log.get("grad_norm"),
            seconds=time.monotonic() - self._began,
        )
        self.curve.append(row)
        self._on_step(row, self._steps)

    def checkpoint_due(self) -> bool:
        return time.monotonic() - self._saved >= self._every_seconds

    def checkpoint(self, step: int, written: Path, limits: PassLimits) -> None:
        self._checkpoints.save(written, step=step, curve=self.curve, limits=limits)
        self._saved = time.monotonic()
        self._on_saved()


def _attention_layers(model: torch.nn.Module) -> list[str]:
    """The names of the attention's linear layers."""
    linear = (name for name, each in model.named_modules() if isinstance(each, torch.nn.Linear))
    return sorted({name.rpartition(".")[2] for name in linear if is_attention(name)})


def _lora(base: BaseModel, settings: TrainingSettings) -> LoraConfig:
    modules = settings.target_modules
    if modules == "all-linear" and architecture_in(base.folder).experts:
        # PEFT would turn to the joined experts, which take no dropout and which no engine serves.
        modules = _attention_layers(base.model)
    return LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        bias="none",
        task_type="CAUSAL_LM",
    )


def _cutter(base: BaseModel, settings: TrainingSettings) -> Cutter:
    memory = training_memory(
        shape_of(base.model),
        settings,
        weight_bytes=base.model.dtype.itemsize,
        device="cuda" if base.model.device.type == "cuda" else "cpu",
    )
    return Cutter(memory, packed=may_pack(base.model.config), checkpointing=may_checkpoint(base.model))


def _watch(recorder: _Recorder, trainer: AnswerTrainer, stop: StopRequest) -> StepWatch:
    return StepWatch(
        on_step=recorder.step,
        checkpoint_due=recorder.checkpoint_due,
        on_checkpoint=lambda step, written: recorder.checkpoint(step, written, trainer.limits),
        stop=stop,
    )


def _trainer(
    base: BaseModel, model: Any, run: TuningRun, cutter: Cutter, limits: PassLimits, *, output: Path
) -> AnswerTrainer:
    return AnswerTrainer(
        base_model_id=base.ref.id,
        # LoRA's weights are float32, but they too are multiplied in the base model's bfloat16.
        autocast=base.model.dtype is torch.bfloat16,
        cutter=cutter,
        limits=limits,
        model=model,
        args=_arguments(run, output, on_cpu=base.model.device.type == "cpu"),
        train_dataset=run.samples,
        data_collator=lambda samples: {"samples": samples},
    )


def _arguments(run: TuningRun, output: Path, *, on_cpu: bool) -> TrainingArguments:
    settings = run.settings
    arguments = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=settings.batch_size,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(settings.warmup_ratio * run.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch",
        seed=run.seed,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        logging_steps=1,
        logging_nan_inf_filter=False,  # The filter would hide a loss that is not finite.
        save_strategy="no",  # `StepWatch` requests checkpoints by time.
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    # With two visible devices the Trainer would wrap the model in DataParallel and double the batch: another result.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
