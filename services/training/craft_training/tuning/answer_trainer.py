"""transformers' Trainer with its own step: logits only for learned tokens, and packed samples (ADR 0003)."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from craft.errors import TuningUnusable
from craft.infra.process.memory_errors import FullMemory, full_memory
from craft.infra.stage.context import StopRequest
from craft_training.packaging.adapter_files import write_adapter
from craft_training.tuning.batches import Batch
from craft_training.tuning.device_memory import device_memory, release_cached, too_small
from craft_training.tuning.passes import Cutter, Pass, PassLimits
from craft_training.tuning.recomputing import RandomState, checkpointing
from craft_training.tuning.samples import Sample

_log = logging.getLogger("craft.training")

StepLog = Mapping[str, float]
"""The Trainer's log of one optimiser step: loss, grad_norm, learning_rate, epoch."""


def answer_logits(model: Any, batch: Batch, *, autocast: bool) -> torch.Tensor:
    """The logits (N, vocabulary) that predict a batch's N learned tokens, in float32.

    `autocast` multiplies in bfloat16.
    """
    device = batch["input_ids"].device.type
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        logits = model(
            input_ids=batch["input_ids"],
            attention_mask=_attention_mask(batch, torch.bfloat16 if autocast else model.dtype),
            position_ids=batch["position_ids"],
            logits_to_keep=batch["keep"],
            use_cache=False,
        ).logits
    kept: torch.Tensor = logits[batch["rows"], batch["columns"]].float()
    return kept


def _attention_mask(batch: Batch, dtype: torch.dtype) -> torch.Tensor:
    """A packed batch's mask as numbers that are added to the scores, in the dtype of the attention.

    Attention would make these of a boolean mask in every layer, and keep each for the backward pass.
    """
    mask = batch["attention_mask"]
    if mask.dtype is not torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)


def answer_loss(model: Any, batch: Batch, *, autocast: bool) -> torch.Tensor:
    """The summed cross-entropy of a batch's learned tokens, in float32. `autocast` as above."""
    return cross_entropy(answer_logits(model, batch, autocast=autocast), batch["targets"], reduction="sum")


@dataclass(slots=True)
class PassCounts:
    """The passes of a run so far. `largest` is the largest one's tokens, `cut_again` the steps that were cut anew."""

    passes: int = 0
    checkpointed: int = 0
    largest: int = 0
    cut_again: int = 0


class AnswerTrainer(Trainer):
    """Takes `{"samples": [Sample, …]}` for an optimiser step. The loss is the mean over all of its learned tokens.

    `limits` are what is known of the device's memory; where it runs out they shrink, and the step is cut again.
    """

    def __init__(
        self, *, base_model_id: str, autocast: bool, cutter: Cutter, limits: PassLimits, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._base_model_id = base_model_id
        self._cutter = cutter
        self.autocast = autocast
        self.limits = limits
        self.counts = PassCounts()
        self.remove_callback(PrinterCallback)

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Compute one optimiser step's gradient pass by pass, so that memory holds one pass.

        Where memory runs out, the whole step is computed again from the same random state by smaller passes: it is the
        step that a run would do which had these limits from the start. Raises TuningUnusable if the loss is not finite,
        and GpuOutOfMemory or HostOutOfMemory where not even one row alone fits.
        """
        del num_items_in_batch  # The sum of the passes counts the learned tokens.
        model.train()
        samples: list[Sample] = inputs["samples"]
        random = RandomState.of(self.args.device)
        while (total := self._passes(model, samples)) is None:
            model.zero_grad(set_to_none=True)
            release_cached(self.args.device)
            random.restore()
        if not torch.isfinite(total):
            raise TuningUnusable(
                f"The loss became {total.item()} at step {self.state.global_step + 1}.",
                hint="Lower training.learning_rate, or raise training.warmup_ratio.",
                param="training.learning_rate",
            )
        return total

    def _passes(self, model: Any, samples: Sequence[Sample]) -> torch.Tensor | None:
        """The step's loss, with its gradients in the model; None where memory ran out, and the limits are smaller."""
        learned = sum(len(sample.tokens) - sample.prompt_length for sample in samples)
        total = torch.zeros((), device=self.args.device)
        for each in self._cutter.cut(samples, self.limits):
            try:
                with checkpointing(model, enabled=each.checkpointed):
                    batch = cast("Batch", self._prepare_inputs(cast("dict[str, Any]", each.batch())))
                    loss = answer_loss(model, batch, autocast=self.autocast) / learned
                    self.accelerator.backward(loss)
            except Exception as error:
                full = full_memory(error)
                if full is None:
                    raise
            else:
                total += loss.detach()
                self._count(each)
                continue
            # Not in the handler: there the error still holds the pass's tensors.
            self._shrink(each, full)
            return None
        return total

    def _shrink(self, failed: Pass, full: FullMemory) -> None:
        smaller = self._cutter.smaller(failed, self.limits)
        if smaller is None:
            raise too_small(failed, full, device_memory(self.args.device))
        self.counts.cut_again += 1
        self.limits = smaller
        _log.warning(
            "training_step_cut_again",
            extra={
                "step": self.state.global_step + 1,
                "memory": full.value,
                "tokens": failed.size.tokens,
                "rows": len(failed.samples),
                "checkpointed": failed.checkpointed,
            },
        )

    def _count(self, done: Pass) -> None:
        self.counts.passes += 1
        self.counts.checkpointed += done.checkpointed
        self.counts.largest = max(self.counts.largest, done.size.tokens)

    def floating_point_ops(self, inputs: object) -> int:
        """Return 0: the Trainer would count the operations at each step, and nothing reads them."""
        del inputs
        return 0

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:  # noqa: FBT001, FBT002 - the Trainer's own signature
        """Write the adapter alone into a checkpoint, without pickled arguments."""
        assert isinstance(self.model, PeftModel)  # noqa: S101 - for the type checker: `tuning` gives no other
        write_adapter(self.model, Path(str(output_dir or self.args.output_dir)), base_model_id=self._base_model_id)


class StepWatch(TrainerCallback):
    """Reports each optimiser step, requests a checkpoint when one is due, and passes on each written checkpoint.

    After a stop request the current step is the last one: it gets a checkpoint, and training ends.
    """

    def __init__(
        self,
        *,
        on_step: Callable[[int, StepLog], None],
        checkpoint_due: Callable[[], bool],
        on_checkpoint: Callable[[int, Path], None],
        stop: StopRequest,
    ) -> None:
        self._on_step = on_step
        self._checkpoint_due = checkpoint_due
        self._on_checkpoint = on_checkpoint
        self._stop = stop

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the Trainer's own signature
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - the Trainer's own signature
        logs: StepLog | None = None,
        **_: Any,
    ) -> None:
        """Report each step's log. The Trainer's summary at the end has no loss and is ignored."""
        if logs is not None and "loss" in logs:
            self._on_step(state.global_step, logs)

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the Trainer's own signature
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> TrainerControl:
        """Request a checkpoint when one is due, or after a stop request.

        The last step needs none, because the adapter itself is written next.
        """
        due = state.global_step < state.max_steps and self._checkpoint_due()
        if due or self._stop.requested:
            control.should_save = True
        return control

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> TrainerControl:
        """Pass on the checkpoint that the Trainer has just written, and end training after a stop request."""
        self._on_checkpoint(state.global_step, Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
        if self._stop.requested:
            control.should_training_stop = True
        return control
