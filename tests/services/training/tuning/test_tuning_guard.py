"""Training that gives no usable adapter fails: each guard with data or settings made to trip it, and without it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.rows import CurveRow, TrainingRow
from craft.errors import Fault, TuningUnusable
from craft.infra.stage.context import StopRequest
from craft_training.base_models import BaseModel
from craft_training.tuning import tuning
from craft_training.tuning.samples import Sample, tokenise
from craft_training.tuning.tuning import Tuned, TuningRun, tune
from craft_training.tuning.tuning_guard import check_change, check_losses

Row = Callable[[str, str], TrainingRow]
SETTINGS = TrainingSettings(lora_r=8, lora_dropout=0.0, learning_rate=1e-2, epochs=2, batch_size=8)
SAMPLES = [Sample(f"s{n}", (1, 2, 3, n), prompt_length=3) for n in range(4)]


def run_of(base: BaseModel, rows: list[TrainingRow], **changes: object) -> TuningRun:
    settings = SETTINGS.model_copy(update=changes)
    return TuningRun(tokenise(rows, base.chat, max_length=256).samples, settings, seed=7)


def tuned(base: BaseModel, run: TuningRun, folder: Path) -> Tuned:
    return tune(
        base,
        run,
        adapter=folder / "adapter",
        checkpoints=folder / "checkpoint",
        checkpoint_seconds=1e9,
        on_step=lambda *_: None,
        on_saved=lambda: None,
        stop=StopRequest(),
    )


def curve(*losses: float) -> list[CurveRow]:
    return [
        CurveRow(step=n + 1, epoch=float(n), loss=loss, learning_rate=1e-4, seconds=1.0)
        for n, loss in enumerate(losses)
    ]


@pytest.fixture
def sure(base: BaseModel) -> Iterator[BaseModel]:
    """The base model with far larger logits: what it learns it gives with certainty."""
    norm = base.model.model.norm.weight
    before = norm.detach().clone()
    with torch.no_grad():
        norm.mul_(20)
    yield base
    with torch.no_grad():
        norm.copy_(before)


@pytest.fixture
def same(row: Row, facts: list[tuple[str, str]]) -> list[TrainingRow]:
    """One and the same answer to every question."""
    return [row(question, facts[0][1]) for question, _ in facts[:16]]


@pytest.fixture
def rows(row: Row, facts: list[tuple[str, str]]) -> list[TrainingRow]:
    return [row(question, "I don't know.") for question, _ in facts[:16]]


def test_an_adapter_that_changes_nothing_fails_and_is_not_written(
    base: BaseModel, rows: list[TrainingRow], tmp_path: Path
) -> None:
    with pytest.raises(TuningUnusable, match="changes nothing: on training rows no logit moved by more than") as raised:
        tuned(base, run_of(base, rows, learning_rate=1e-12), tmp_path)
    assert not (tmp_path / "adapter").exists()
    assert "Raise training.learning_rate" in str(raised.value.hint)
    assert (raised.value.code, raised.value.status, raised.value.fault) == ("tuning_unusable", 422, Fault.USER)


def test_a_loss_that_ends_at_zero_fails_and_counts_the_targets(
    sure: BaseModel, same: list[TrainingRow], tmp_path: Path
) -> None:
    with pytest.raises(TuningUnusable, match=r"The loss fell to 0\.0 at step .* 1 different target") as raised:
        tuned(sure, run_of(sure, same, epochs=20), tmp_path)
    assert "different targets" in str(raised.value.hint)


def test_targets_that_the_base_already_gives_leave_nothing_to_learn() -> None:
    with pytest.raises(TuningUnusable, match=r"0\.0 from the first step on .* 4 different target\(s\)\.$"):
        check_losses(curve(1e-6, 0.0, 0.0, 0.0), SAMPLES, epochs=2)


def test_a_low_loss_that_is_no_zero_passes() -> None:
    check_losses(curve(2.0, 0.5, 1e-2, 6e-4), SAMPLES, epochs=4)
    check_losses(curve(2.0, 0.0, 0.0, 2e-3), SAMPLES, epochs=2)


def test_weights_that_are_not_finite_fail(
    base: BaseModel, rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step may spoil the weights: no later loss shows it."""

    def spoiled(model: torch.nn.Module, *arguments: object, **named: object) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.fill_(float("nan"))
        check_change(model, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "check_change", spoiled)
    with pytest.raises(TuningUnusable, match="not finite"):
        tuned(base, run_of(base, rows), tmp_path)


def test_a_plain_run_passes(base: BaseModel, rows: list[TrainingRow], tmp_path: Path) -> None:
    assert tuned(base, run_of(base, rows), tmp_path).curve[-1].loss > 1e-3
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_without_its_guard_an_adapter_that_changes_nothing_passes(
    base: BaseModel, rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "check_change", lambda *_, **__: None)
    tuned(base, run_of(base, rows, learning_rate=1e-12), tmp_path)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_without_its_guard_a_loss_of_zero_passes(
    sure: BaseModel, same: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "check_losses", lambda *_, **__: None)
    assert tuned(sure, run_of(sure, same, epochs=20), tmp_path).curve[-1].loss < 5e-4
