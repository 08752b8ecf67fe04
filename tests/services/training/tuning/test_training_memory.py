"""The memory formula is within a fifth of what torch's allocator counts, for several architectures and both dtypes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from tests.model_files import write_checkpoint
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen3Config,
)

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.parameters import ModelRef, TrainerRef
from craft.infra.models.folders import ModelFolders
from craft.infra.models.shape import read_shape
from craft.infra.models.training_memory import PassSize, training_memory
from craft_training.base_models import BaseModel, adapted
from craft_training.model_shape import shape_of
from craft_training.tuning.answer_trainer import answer_loss
from craft_training.tuning.batches import may_pack, pack, pad, size_of
from craft_training.tuning.recomputing import checkpointing
from craft_training.tuning.samples import Sample

RANK, LAYERS = 8, 4
COMMON: dict[str, Any] = {
    "num_hidden_layers": LAYERS,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_attention_heads": 4,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "attn_implementation": "sdpa",
}
GROUPED = COMMON | {"num_key_value_heads": 2}
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**GROUPED, vocab_size=1000),
    "wide_vocabulary": lambda: LlamaConfig(**GROUPED, vocab_size=20_000),
    "qwen3": lambda: Qwen3Config(**GROUPED, vocab_size=1000, head_dim=128),
    "gemma3": lambda: Gemma3TextConfig(**GROUPED, vocab_size=1000, head_dim=96, sliding_window=64),
    "gemma2_eager": lambda: Gemma2Config(
        **GROUPED | {"attn_implementation": "eager"}, vocab_size=1000, head_dim=64, sliding_window=64
    ),
    "phi3_fused": lambda: Phi3Config(**GROUPED, vocab_size=1000),
    "neox_plain": lambda: GPTNeoXConfig(**COMMON, vocab_size=1000),
}


@dataclass(frozen=True)
class Measured:
    """Bytes of one pass: what autograd keeps, and the allocator's peak, beside the model's own."""

    kept: int
    peak: int


def samples(*, count: int, length: int, target: int, vocabulary: int) -> list[Sample]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(1, vocabulary, (count, length), generator=generator).tolist()
    return [Sample(str(at), tuple(row), length - target) for at, row in enumerate(rows)]


def made(name: str, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[name](), dtype=dtype)  # type: ignore[no-untyped-call]


def peak(work: Callable[[], None]) -> int:
    """The most bytes above those at the beginning, by the allocator's own record."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    results: Any = recorded.profiler
    changes = [event for event in results.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def measured(model: Any, rows: Sequence[Sample], *, packed: bool, checkpointed: bool) -> Measured:
    autocast = model.dtype is torch.bfloat16
    batch = pack(rows) if packed else pad(rows)
    base = BaseModel(ModelRef(id="a/b", revision="main", digest="0" * 64), model, None, TrainerRef(), Path())
    lora = LoraConfig(r=RANK, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM")
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with adapted(base, lora) as tuned:
        tuned.train()
        own = {weight.untyped_storage().data_ptr() for weight in [*tuned.parameters(), *tuned.buffers()]}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            answer_loss(tuned, batch, autocast=autocast)
        count = sum(tensor.untyped_storage().nbytes() for at, tensor in kept.items() if at not in own)
        kept.clear()

        def step() -> None:
            with checkpointing(tuned, enabled=checkpointed):
                torch.autograd.backward(answer_loss(tuned, batch, autocast=autocast))

        return Measured(kept=count, peak=peak(step))


@pytest.mark.parametrize("checkpointed", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_pass_takes_what_the_formula_says(name: str, dtype: torch.dtype, checkpointed: bool) -> None:
    torch.set_num_threads(1)
    model = made(name, dtype)
    rows = samples(count=4, length=96, target=16, vocabulary=1000)
    packed = may_pack(model.config)
    settings = TrainingSettings(lora_r=RANK)
    shape = shape_of(model)
    memory = training_memory(shape, settings, weight_bytes=dtype.itemsize, device="cpu")
    found = measured(model, rows, packed=packed, checkpointed=checkpointed)
    size = size_of(rows, packed=packed)
    # The pass makes LoRA's gradients, and in bfloat16 copies of its weights.
    beside = shape.lora_parameters(settings) * (6 if dtype is torch.bfloat16 else 4)
    says = memory.pass_bytes(size, checkpointed=checkpointed) + beside
    assert says == pytest.approx(found.peak, rel=0.2)
    if not checkpointed:
        assert found.kept < found.peak


def test_attention_that_keeps_its_scores_is_known_from_the_folder_too(tmp_path: Path) -> None:
    config: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64, "head_dim": 16}
    folder = write_checkpoint(tmp_path / "gemma", architectures=["Gemma2ForCausalLM"], model_type="gemma2", **config)
    assert read_shape(folder).score_heads == 4
    assert read_shape(write_checkpoint(tmp_path / "llama")).score_heads == 0


def test_a_long_row_costs_more_than_its_tokens_by_its_mask() -> None:
    model = made("llama", torch.float32)
    memory = training_memory(shape_of(model), TrainingSettings(), weight_bytes=4, device="cpu")
    short, long = (memory.pass_bytes(PassSize(tokens=each, logits=1, pairs=each**2)) for each in (100, 10_000))
    assert long > 100 * short


def test_cuda_keeps_a_smaller_dropout_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel that CUDA uses has an implementation for processors too.
    monkeypatch.setattr(functional, "dropout", lambda given, p, *_: torch.native_dropout(given, p, True)[0])
    model = made("llama", torch.bfloat16)
    rows = samples(count=4, length=96, target=16, vocabulary=1000)
    memory = training_memory(shape_of(model), TrainingSettings(lora_r=RANK), weight_bytes=2, device="cuda")
    says = memory.pass_bytes(size_of(rows, packed=True))
    found = measured(model, rows, packed=True, checkpointed=False)
    assert says == pytest.approx(found.peak, rel=0.1)


def test_a_loaded_model_has_the_shape_of_its_folder(base: BaseModel, folders: ModelFolders) -> None:
    loaded, stored = shape_of(base.model), read_shape(folders.find("tests/tiny").path)
    assert loaded.matrices == stored.matrices
    assert (loaded.parameters, loaded.tied) == (stored.parameters, stored.tied)
    assert training_memory(loaded, TrainingSettings(), weight_bytes=2) == training_memory(
        stored, TrainingSettings(), weight_bytes=2
    )
