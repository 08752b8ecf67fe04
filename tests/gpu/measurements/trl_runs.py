"""Tuning by TRL's SFTTrainer as its users would set it for these rows: loss on the target only, and packing or not."""

import math
import time
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from tests.gpu.rig.checks import Bench
from tests.gpu.rig.peak_memory import Peak, measured_peak
from tests.gpu.rig.shapes import lora_of
from tests.gpu.rig.tuning_runs import WARM_UP_STEPS, release
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from craft.contracts.spec.jobs import TrainingSettings
from craft_training.base_models import BaseModel
from craft_training.tuning.samples import Sample

_PACKED_LENGTH = 1024
"""TRL's own `max_length`: a packed sequence has about the rows of one of our steps."""


@dataclass(frozen=True, slots=True)
class Speed:
    """A run's speed after its first steps, the mean loss of its first step, and the most bytes above the model's."""

    samples_per_second: float
    first_loss: float
    peak_bytes: int


def speed_peak(bench: Bench) -> AbstractContextManager[Peak]:
    """Measures memory on a GPU only: on a CPU that costs too much time."""
    return measured_peak(bench) if bench.on_gpu else nullcontext(Peak())


def trl_padded(bench: Bench, base: BaseModel, samples: Sequence[Sample], settings: TrainingSettings) -> Speed:
    """Batches of as many rows as ours."""
    return _train(bench, base, samples, settings, per_device_train_batch_size=settings.batch_size)


def trl_packed(bench: Bench, base: BaseModel, samples: Sequence[Sample], settings: TrainingSettings) -> Speed:
    """One packed sequence a step. Position ids keep the rows of a sequence apart."""
    return _train(
        bench, base, samples, settings, per_device_train_batch_size=1, packing=True, max_length=_PACKED_LENGTH
    )


class _Clock(TrainerCallback):
    """The seconds at each step's end, when the device has done its work, and the first step's loss."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.seconds: list[float] = []
        self.first_loss = math.nan

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._bench.on_gpu and state.global_step in (WARM_UP_STEPS, state.max_steps):
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if state.global_step == 1 and logs and "loss" in logs:
            self.first_loss = logs["loss"]


def _train(bench: Bench, base: BaseModel, samples: Sequence[Sample], settings: TrainingSettings, **own: Any) -> Speed:
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    rows = Dataset.from_list(
        [
            {"input_ids": list(s.tokens), "labels": [*[-100] * s.prompt_length, *s.tokens[s.prompt_length :]]}
            for s in samples
        ]
    )
    disable_progress_bars()
    clock = _Clock(bench)
    release(bench)
    with warnings.catch_warnings(), speed_peak(bench) as measured:
        warnings.simplefilter("ignore")
        trainer = SFTTrainer(
            model=base.model,
            args=SFTConfig(**_arguments(bench, base, settings, len(samples)) | own),
            train_dataset=rows,
            processing_class=_tokenizer(),
            peft_config=lora_of(settings),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    late = clock.seconds[WARM_UP_STEPS - 1 :]
    done = (len(late) - 1) * trainer.args.per_device_train_batch_size * _rows_of_a_sequence(trainer.train_dataset)
    return Speed(done / (late[-1] - late[0]), clock.first_loss, measured.above_bytes)


def _rows_of_a_sequence(sequences: Any) -> float:
    """1 without packing. The last packed sequence is not full and does not count, which favours TRL."""
    if "seq_lengths" not in sequences.column_names:
        return 1.0
    rows = sorted(len(lengths) for lengths in sequences["seq_lengths"])[1:]
    return sum(rows) / len(rows)


def _arguments(bench: Bench, base: BaseModel, settings: TrainingSettings, rows: int) -> dict[str, Any]:
    """Our parameters in TRL's words. Checkpointing is off: it is for those who lack memory, and slows down."""
    steps = math.ceil(rows / settings.batch_size) * settings.epochs
    return {
        "output_dir": str(bench.scratch / "trl"),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": math.ceil(settings.warmup_ratio * steps),
        "max_grad_norm": settings.max_grad_norm,
        "bf16": base.model.dtype is torch.bfloat16,
        "gradient_checkpointing": False,
        "use_cpu": not bench.on_gpu,
        "dataloader_pin_memory": bench.on_gpu,
        "seed": 3,
        "logging_first_step": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def _tokenizer() -> PreTrainedTokenizerFast:
    """SFTTrainer wants one, although the rows are token ids already."""
    words = {"<end>": 0, "<unknown>": 1}
    core = Tokenizer(WordLevel(words, unk_token="<unknown>"))
    names = {"eos_token": "<end>", "pad_token": "<end>", "unk_token": "<unknown>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)  # type: ignore[no-untyped-call]
