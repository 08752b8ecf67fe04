"""transformers' Trainer with its own step: logits only for learned tokens, and packed samples (ADR 0003)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from craft.errors import TuningUnusable
from craft.infra.stage.context import StopRequest
from craft_training.packaging.adapter_files import write_adapter
from craft_training.tuning.batches import Batch

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
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
            logits_to_keep=batch["keep"],
            use_cache=False,
        ).logits
    kept: torch.Tensor = logits[batch["rows"], batch["columns"]].float()
    return kept


def answer_loss(model: Any, batch: Batch, *, autocast: bool) -> torch.Tensor:
    """The summed cross-entropy of a batch's learned tokens, in float32. `autocast` as above."""
    return cross_entropy(answer_logits(model, batch, autocast=autocast), batch["targets"], reduction="sum")


class AnswerTrainer(Trainer):
    """Takes `{"batches": [Batch, …]}` for an optimiser step. The loss is the mean over all of its learned tokens."""

    def __init__(self, *, base_model_id: str, autocast: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._base_model_id = base_model_id
        self.autocast = autocast
        self.remove_callback(PrinterCallback)

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Compute one optimiser step's gradient batch by batch, so that memory holds one batch.

        Raises TuningUnusable if the loss is not finite.
        """
        del num_items_in_batch  # The sum below counts the learned tokens of all batches.
        model.train()
        batches: list[Batch] = list(self._prepare_inputs(inputs)["batches"])
        learned = sum(len(batch["targets"]) for batch in batches)
        total = torch.zeros((), device=self.args.device)
        for batch in batches:
            loss = answer_loss(model, batch, autocast=self.autocast) / learned
            self.accelerator.backward(loss)
            total += loss.detach()
        if not torch.isfinite(total):
            raise TuningUnusable(
                f"The loss became {total.item()} at step {self.state.global_step + 1}.",
                hint="Lower training.learning_rate, or raise training.warmup_ratio.",
                param="training.learning_rate",
            )
        return total

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
