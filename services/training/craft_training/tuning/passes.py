"""The passes of one optimiser step: how its samples are cut, and how the cut changes where memory runs out.

The loss is a sum over learned tokens, so a step's gradient is the same for every cut. A pass with gradient
checkpointing keeps one layer's activations instead of all, and computes each layer twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from craft.contracts.base import Contract
from craft.infra.models.training_memory import MAX_TOKENS_PER_PASS, PassSize, TrainingMemory
from craft_training.tuning.batches import Batch, groups_of, pack, pad, size_of
from craft_training.tuning.samples import Sample

_CHECKPOINTING_WORK = 4 / 3
"""Work of a token with checkpointing: a second forward beside the first and a backward that costs two."""


class PassLimit(Contract):
    """The most bytes, by `TrainingMemory`, of a pass of several rows and of one row alone. None: not known yet.

    Several rows are cut where a pass was too large, at half of it; a row alone is too large only where it was tried.
    """

    together: int | None = None
    alone: int | None = None


class PassLimits(Contract):
    """The limits of passes that keep all activations and of checkpointed ones."""

    kept: PassLimit = PassLimit()
    checkpointed: PassLimit = PassLimit()


@dataclass(frozen=True, slots=True)
class Pass:
    """The samples of one forward and backward pass. `needs` are its bytes by `TrainingMemory`."""

    samples: Sequence[Sample]
    size: PassSize
    needs: int
    packed: bool
    checkpointed: bool

    @property
    def work(self) -> float:
        """The pass's cost, in tokens of one without checkpointing."""
        return self.size.tokens * (_CHECKPOINTING_WORK if self.checkpointed else 1.0)

    def batch(self) -> Batch:
        """The tensors of the pass."""
        return pack(self.samples) if self.packed else pad(self.samples)


@dataclass(frozen=True, slots=True)
class Cutter:
    """Cuts the steps of one model. `packed` as `may_pack` says; `checkpointing` if the model can do it."""

    memory: TrainingMemory
    packed: bool
    checkpointing: bool

    def cut(self, samples: Sequence[Sample], limits: PassLimits) -> list[Pass]:
        """The passes within the limits that cost least.

        A row that is above the limit alone is checkpointed. Where rows begin alike, a few large passes with
        checkpointing can cost less than many small ones. A row above every limit is a pass nevertheless.
        """
        kept = self._passes(samples, limits.kept, checkpointed=False)
        if limits.kept == PassLimit() or not self.checkpointing:
            return kept
        mixed = [
            self._pass(each.samples, checkpointed=True) if _above(each, limits.kept.alone) else each for each in kept
        ]
        recomputed = self._passes(samples, limits.checkpointed, checkpointed=True)
        if any(_above(each, limits.checkpointed.alone) for each in recomputed):
            return mixed
        return min(mixed, recomputed, key=lambda passes: sum(each.work for each in passes))

    def smaller(self, failed: Pass, limits: PassLimits) -> PassLimits | None:
        """The limits after memory ran out in a pass: half of it, or the other kind of pass for a row alone.

        None where nothing is left to try.
        """
        name = "checkpointed" if failed.checkpointed else "kept"
        limit = limits.checkpointed if failed.checkpointed else limits.kept
        if len(failed.samples) > 1:
            return limits.model_copy(update={name: PassLimit(together=failed.needs // 2, alone=limit.alone)})
        may_be_kept = not _above(self._pass(failed.samples, checkpointed=False), limits.kept.alone)
        if may_be_kept if failed.checkpointed else self.checkpointing:
            most = failed.needs - 1
            together = min(limit.together or most, most)
            return limits.model_copy(update={name: PassLimit(together=together, alone=most)})
        return None

    def alone(self, sample: Sample) -> Pass:
        """The smallest pass with this sample."""
        return self._pass([sample], checkpointed=self.checkpointing)

    def _passes(self, samples: Sequence[Sample], limit: PassLimit, *, checkpointed: bool) -> list[Pass]:
        def fits(group: Sequence[Sample]) -> bool:
            each = self._pass(group, checkpointed=checkpointed)
            return each.size.tokens <= MAX_TOKENS_PER_PASS and not _above(each, limit.together)

        return [self._pass(group, checkpointed=checkpointed) for group in groups_of(samples, fits)]

    def _pass(self, samples: Sequence[Sample], *, checkpointed: bool) -> Pass:
        size = size_of(samples, packed=self.packed)
        needs = self.memory.pass_bytes(size, checkpointed=checkpointed)
        return Pass(samples, size, needs, packed=self.packed, checkpointed=checkpointed)


def _above(each: Pass, limit: int | None) -> bool:
    return limit is not None and each.needs > limit
