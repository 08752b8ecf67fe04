"""Guards of a training run: a loss that is no number, nothing to learn, and an adapter that changes nothing."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import cast

import torch
from peft import PeftModel

from craft.contracts.stages.rows import CurveRow
from craft.errors import TuningUnusable
from craft_training.tuning.answer_trainer import answer_logits
from craft_training.tuning.batches import Batch, batches_of
from craft_training.tuning.samples import Sample

MIN_LOSS = 1e-5
"""A lower mean loss is 0.0 but for rounding: every token of every target is certain."""
MIN_CHANGE = 1e-4
"""A smaller change of every logit, in natural logarithms, changes no reply."""
_COMPARED_SAMPLES = 8
_MOSTLY = 0.9


def check_losses(curve: Sequence[CurveRow], samples: Sequence[Sample], *, epochs: int) -> None:
    """Raises TuningUnusable if the last epoch's mean loss is 0.0: training had nothing to learn, or nothing left."""
    steps = max(1, len(curve) // epochs)
    last = sum(row.loss for row in curve[-steps:]) / steps
    if last >= MIN_LOSS:
        return
    if curve[0].loss < MIN_LOSS:
        raise TuningUnusable(
            f"The loss is 0.0 from the first step on ({curve[0].loss:.1e}): the base model already gives each target, "
            f"so there is nothing to learn. {_targets(samples)}",
            hint="Look at the training rows: targets that the model does not give yet are needed.",
            param="dataset",
        )
    zero = next(row.step for row in curve if row.loss < MIN_LOSS)
    raise TuningUnusable(
        f"The loss fell to 0.0 at step {zero} of {curve[-1].step} and ends at {last:.1e}: the adapter knows the "
        f"training rows by heart and will give their targets to other questions too. {_targets(samples)}",
        hint="Give more rows with different targets, or fewer training.epochs or a lower training.learning_rate.",
        param="training.epochs",
    )


def check_change(model: PeftModel, samples: Sequence[Sample], *, autocast: bool, max_tokens: int) -> None:
    """Raises TuningUnusable if the adapter is not finite, or leaves the replies to training rows as they were.

    `max_tokens` of a batch are known to fit into memory; one row alone may have more.
    """
    change = _largest_change(model, samples[:_COMPARED_SAMPLES], autocast=autocast, max_tokens=max_tokens)
    if not math.isfinite(change):
        raise TuningUnusable(
            "The tuned adapter gives numbers that are not finite.",
            hint="Lower training.learning_rate, or raise training.warmup_ratio.",
            param="training.learning_rate",
        )
    if change < MIN_CHANGE:
        raise TuningUnusable(
            f"The adapter changes nothing: on training rows no logit moved by more than {change:.1e}.",
            hint="Raise training.learning_rate or training.epochs, or name layers in training.target_modules that the "
            "model uses.",
            param="training.learning_rate",
        )


def _largest_change(model: PeftModel, samples: Sequence[Sample], *, autocast: bool, max_tokens: int) -> float:
    """The largest change of a logit at the learned tokens, with the adapter against without it."""
    model.eval()
    changes = []
    with torch.inference_mode():
        for batch in batches_of(samples, packed=False, max_tokens=max_tokens):
            tensors = cast("dict[str, torch.Tensor]", batch)
            on_device = cast("Batch", {name: tensor.to(model.device) for name, tensor in tensors.items()})
            tuned = answer_logits(model, on_device, autocast=autocast)
            with model.disable_adapter():
                untuned = answer_logits(model, on_device, autocast=autocast)
            changes.append((tuned - untuned).abs().max())
    # `max` of torch keeps NaN, which Python's may lose.
    return float(torch.stack(changes).max())


def _targets(samples: Sequence[Sample]) -> str:
    """The number of different targets, which explains most losses of 0.0."""
    targets = Counter(sample.tokens[sample.prompt_length :] for sample in samples)
    most = max(targets.values())
    alike = f"; {most:,} rows have the same one" if most > _MOSTLY * len(samples) else ""
    return f"The {len(samples):,} rows have {len(targets):,} different target(s){alike}."
