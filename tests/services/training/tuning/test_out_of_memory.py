"""A tuning run that runs out of memory gives the adapter of one that does not: smaller passes, then checkpointing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.rows import TrainingRow
from craft.errors import CraftError, GpuOutOfMemory, GpuTooSmall, HostTooSmall
from craft.infra.stage.context import StopRequest
from craft_training.base_models import BaseModel
from craft_training.tuning.checkpoints import CheckpointManifest
from craft_training.tuning.device_memory import DeviceMemory
from craft_training.tuning.samples import tokenise
from craft_training.tuning.tuning import Tuned, TuningRun, tune

Row = Callable[[str, str], TrainingRow]
Facts = list[tuple[str, str]]

SETTINGS = TrainingSettings(lora_r=8, lora_dropout=0.0, learning_rate=1e-2, epochs=1, batch_size=5)
ADAPTER = Path("adapter") / "adapter_model.safetensors"


class Killed(Exception):
    """Stands for a killed process."""


class SmallDevice:
    """Raises where a pass has more tokens than fit: `kept` with all activations, `checkpointed` with checkpointing.

    `in_backward`: it raises at the end of the backward pass, when gradients are there already.
    """

    def __init__(self, *, kept: int, checkpointed: int = 0, in_backward: bool = False, error: str = "device") -> None:
        self._kept = kept
        self._checkpointed = checkpointed
        self._in_backward = in_backward
        self._error = error
        self.passes: list[tuple[int, bool, bool]] = []
        """Tokens, checkpointed, and ran out of memory."""

    @contextmanager
    def holding(self, base: BaseModel) -> Iterator["SmallDevice"]:
        """Run the model's forward passes here."""
        hook = base.model.model.register_forward_hook(self._after_layers, with_kwargs=True)
        try:
            yield self
        finally:
            hook.remove()

    def _after_layers(self, model: Any, _: object, named: dict[str, Any], output: Any) -> None:
        if not model.training:
            return
        tokens, checkpointed = named["input_ids"].numel(), any(layer.gradient_checkpointing for layer in model.layers)
        full = tokens > (self._checkpointed if checkpointed else self._kept)
        self.passes.append((tokens, checkpointed, full))
        if full and self._in_backward:
            first = next(parameter for parameter in model.parameters() if parameter.requires_grad)
            self._hook = first.register_hook(lambda _: self._run_out())
        elif full:
            self._run_out()

    def _run_out(self) -> None:
        if self._in_backward:
            self._hook.remove()
        if self._error == "host":
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def run(base: BaseModel, row: Row, facts: Facts) -> TuningRun:
    """Twenty rows of unlike lengths."""
    rows = [row(f"{question} {'Be brief. ' * (index % 5)}", f"No {index}") for index, (question, _) in enumerate(facts)]
    return TuningRun(tokenise(rows[:20], base.chat, max_length=512).samples, SETTINGS, seed=7)


def tuned(base: BaseModel, run: TuningRun, folder: Path, *, die_at: int | None = None, seconds: float = 1e9) -> Tuned:
    def on_step(row: Any, steps: int) -> None:
        if row.step == die_at:
            raise Killed

    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    return tune(
        base,
        run,
        adapter=folder / "adapter",
        checkpoints=folder / "checkpoints",
        checkpoint_seconds=seconds,
        on_step=on_step,
        on_saved=lambda: None,
        stop=StopRequest(),
    )


def longest(run: TuningRun) -> int:
    return max(len(sample.tokens) for sample in run.samples)


def assert_same(one: Path, other: Path) -> None:
    expected, found = load_file(one / ADAPTER), load_file(other / ADAPTER)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize("error", ["device", "host"])
def test_a_step_that_runs_out_of_memory_is_cut_smaller_and_gives_the_same_adapter(
    base: BaseModel, run: TuningRun, tmp_path: Path, in_backward: bool, error: str
) -> None:
    whole = tuned(base, run, tmp_path / "whole")
    room = longest(run) + 10
    assert whole.passes.largest > room
    small = SmallDevice(kept=room, checkpointed=0, in_backward=in_backward, error=error)
    with small.holding(base):
        cut = tuned(base, run, tmp_path / "cut")
    assert [row.loss for row in cut.curve] == pytest.approx([row.loss for row in whole.curve], rel=1e-4)
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert cut.passes.cut_again > 0
    assert cut.passes.largest <= room


def test_a_row_that_does_not_fit_alone_is_checkpointed_and_gives_the_same_adapter(
    base: BaseModel, run: TuningRun, tmp_path: Path
) -> None:
    tuned(base, run, tmp_path / "whole")
    with SmallDevice(kept=longest(run) - 5, checkpointed=10 * longest(run)).holding(base) as small:
        cut = tuned(base, run, tmp_path / "cut")
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert 0 < cut.passes.checkpointed <= cut.passes.passes
    assert any(checkpointed and not full for _, checkpointed, full in small.passes)
    assert not base.model.is_activation_checkpointing
    assert not base.model.training


def test_checkpointed_passes_are_cut_smaller_too(base: BaseModel, run: TuningRun, tmp_path: Path) -> None:
    tuned(base, run, tmp_path / "whole")
    with SmallDevice(kept=10, checkpointed=longest(run) + 5).holding(base):
        cut = tuned(base, run, tmp_path / "cut")
    assert_same(tmp_path / "whole", tmp_path / "cut")
    assert cut.passes.checkpointed == cut.passes.passes
    assert cut.passes.largest <= longest(run) + 5


@pytest.mark.parametrize(("error", "expected"), [("device", GpuTooSmall), ("host", HostTooSmall)])
def test_a_row_that_fits_in_no_way_ends_the_run_with_its_length_and_line_and_is_not_tried_again(
    base: BaseModel, run: TuningRun, tmp_path: Path, error: str, expected: type[CraftError]
) -> None:
    samples = [replace(sample, name=f"line {line}", line=line) for line, sample in enumerate(run.samples, start=1)]
    worst = max(samples, key=lambda sample: len(sample.tokens))
    limit = len(worst.tokens) - 1
    run = replace(run, samples=[each for each in samples if len(each.tokens) <= limit or each is worst])
    with (
        SmallDevice(kept=10, checkpointed=limit, error=error).holding(base) as small,
        pytest.raises(expected) as raised,
    ):
        tuned(base, run, tmp_path)
    assert not raised.value.retryable
    assert f"{worst.name}, {len(worst.tokens):,} tokens" in raised.value.message
    assert raised.value.details[0].line == worst.line
    assert "max_length" in str(raised.value.hint)
    assert small.passes[-1] == (len(worst.tokens), True, True)
    assert not base.model.is_activation_checkpointing


def test_a_row_may_fit_later_where_other_processes_hold_the_device(
    base: BaseModel, run: TuningRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = DeviceMemory(total=100 << 30, free=10 << 30, own=20 << 30)
    monkeypatch.setattr("craft_training.tuning.answer_trainer.device_memory", lambda _: shared)
    with SmallDevice(kept=0).holding(base), pytest.raises(GpuOutOfMemory, match=r"hold 70\.0 GiB of 100") as raised:
        tuned(base, run, tmp_path)
    assert raised.value.retryable


def test_with_dropout_the_run_is_the_one_that_had_small_passes_from_the_start(
    base: BaseModel, run: TuningRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = replace(run, settings=run.settings.model_copy(update={"lora_dropout": 0.3}))
    room = 2 * longest(run)
    with SmallDevice(kept=room).holding(base) as small:
        tuned(base, run, tmp_path / "cut", seconds=0.0)
    first_fits = next(place for place, (_, _, full) in enumerate(small.passes) if not full)
    assert first_fits > 0
    assert not any(full for _, _, full in small.passes[first_fits:])
    (sealed,) = (tmp_path / "cut" / "checkpoints").glob("step-*/sealed.json")
    limits = CheckpointManifest.model_validate_json(sealed.read_bytes()).limits
    monkeypatch.setattr("craft_training.tuning.tuning.first_limits", lambda *_: limits)
    begun = tuned(base, run, tmp_path / "begun")
    assert begun.passes.cut_again == 0
    assert (tmp_path / "cut" / ADAPTER).read_bytes() == (tmp_path / "begun" / ADAPTER).read_bytes()


def test_a_resumed_run_keeps_the_passes_that_fitted(base: BaseModel, run: TuningRun, tmp_path: Path) -> None:
    whole = tuned(base, run, tmp_path / "whole")
    with SmallDevice(kept=longest(run) + 10).holding(base) as small:
        with pytest.raises(Killed):
            tuned(base, run, tmp_path / "cut", die_at=3, seconds=0.0)
        assert small.passes[0][2]
        small.passes.clear()
        resumed = tuned(base, run, tmp_path / "cut")
    assert resumed.resumed_at > 0
    assert not any(full for _, _, full in small.passes)
    assert [row.loss for row in resumed.curve] == pytest.approx([row.loss for row in whole.curve], rel=1e-4)
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_another_error_of_a_step_is_not_taken_for_full_memory(base: BaseModel, run: TuningRun, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    hook = base.model.model.register_forward_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="multiplied"):
            tuned(base, run, tmp_path)
    finally:
        hook.remove()
