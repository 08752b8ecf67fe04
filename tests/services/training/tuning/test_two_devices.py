"""A process that sees two GPUs tunes as with one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.rows import TrainingRow
from craft.infra.stage.context import StopRequest
from craft_training.base_models import BaseModel
from craft_training.tuning import tuning
from craft_training.tuning.samples import tokenise
from craft_training.tuning.tuning import TuningRun, tune

SETTINGS = TrainingSettings(lora_r=8, learning_rate=1e-2, epochs=1, batch_size=4)


def adapter_of(base: BaseModel, run: TuningRun, folder: Path) -> bytes:
    (folder / "checkpoints").mkdir(parents=True)
    tune(
        base,
        run,
        adapter=folder / "adapter",
        checkpoints=folder / "checkpoints",
        checkpoint_seconds=1e9,
        on_step=lambda *_: None,
        on_saved=lambda: None,
        stop=StopRequest(),
    )
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def test_two_visible_devices_give_the_adapter_of_one(
    base: BaseModel,
    row: Callable[[str, str], TrainingRow],
    facts: list[tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [row(question, "I don't know.") for question, _ in facts[:16]]
    run = TuningRun(tokenise(rows, base.chat, max_length=256).samples, SETTINGS, seed=7)
    one = adapter_of(base, run, tmp_path / "one")

    def as_on_a_gpu(**arguments: Any) -> TrainingArguments:
        # With `use_cpu` the Trainer would not count devices at all.
        return TrainingArguments(**{**arguments, "use_cpu": False, "dataloader_pin_memory": False})

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(tuning, "TrainingArguments", as_on_a_gpu)
    assert as_on_a_gpu(output_dir=str(tmp_path)).n_gpu == 2
    assert adapter_of(base, run, tmp_path / "two") == one
