"""LoRA adapters: merged as PEFT applies them, and removed without a trace."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tests.services.inference.conftest import fast_engine, prompts
from transformers import AutoModelForCausalLM

from craft.contracts.stages.rows import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from craft.errors import ModelRejected
from craft_inference.embedded.adapters import AdapterSlot
from craft_inference.engine import Sampling

# peft 0.21 reads a property that transformers 5.23 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

GREEDY = Sampling(max_new_tokens=12)


def model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def write_adapter(folder: Path, base: Path, *, seed: int, rslora: bool = False) -> Path:
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=16, target_modules="all-linear", use_rslora=rslora, init_lora_weights=False)
    get_peft_model(model(base), config).save_pretrained(str(folder))
    return folder


def logits(network: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network(torch.arange(20)[None]).logits
    return found


@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_does_what_peft_does(llama: Path, tmp_path: Path, rslora: bool) -> None:
    folder = write_adapter(tmp_path / "adapter", llama, seed=1, rslora=rslora)
    ours = model(llama)
    before = logits(ours)
    AdapterSlot(ours).use(folder)

    assert torch.allclose(logits(ours), logits(PeftModel.from_pretrained(model(llama), folder)), atol=1e-4)
    assert not torch.allclose(logits(ours), before, atol=0.1)


def test_swapping_and_unloading_give_back_the_very_same_weights(llama: Path, tmp_path: Path) -> None:
    first, second = (write_adapter(tmp_path / str(seed), llama, seed=seed) for seed in (1, 2))
    ours = model(llama).to(torch.bfloat16)
    slot = AdapterSlot(ours)
    base = logits(ours)
    slot.use(first)
    with_first = logits(ours)
    slot.use(second)
    with_second = logits(ours)
    slot.use(first)

    assert torch.equal(logits(ours), with_first)
    assert not torch.equal(with_first, with_second)
    slot.use(None)
    assert torch.equal(logits(ours), base)


def test_the_engine_answers_with_the_adapter_it_is_given(llama: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", llama, seed=1)
    engine = fast_engine(llama)
    asked = prompts("a?", "b?", "c?")
    base, tuned, again = (engine.generate(asked, GREEDY, adapter=path).rows for path in (None, folder, None))

    assert base == again
    assert base != tuned


@pytest.mark.parametrize(
    "change",
    [
        {"use_dora": True},
        {"peft_type": "IA3"},
        {"bias": "all"},
        {"modules_to_save": ["x"]},
        {"rank_pattern": {"q": 1}},
    ],
)
def test_what_we_cannot_merge_is_refused(llama: Path, tmp_path: Path, change: dict[str, object]) -> None:
    folder = write_adapter(tmp_path / "adapter", llama, seed=1)
    config = json.loads((folder / ADAPTER_CONFIG).read_text())
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config | change))

    with pytest.raises(ModelRejected):
        AdapterSlot(model(llama)).use(folder)


def test_an_adapter_of_another_model_is_refused_and_changes_nothing(llama: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", llama, seed=1)
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    name = max(name for name in tensors if name.endswith("lora_B.weight"))
    save_file(tensors | {name: torch.zeros(3, 4)}, folder / ADAPTER_WEIGHTS)
    ours = model(llama)
    slot, before = AdapterSlot(ours), logits(ours)

    with pytest.raises(ModelRejected, match="other sizes"):
        slot.use(folder)
    assert torch.equal(logits(ours), before)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["base_model.model.lm_head.weight"], "not a LoRA weight"),
        (["base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"], "do not belong"),
        ([], "no LoRA weights"),
    ],
)
def test_foreign_weights_are_refused(llama: Path, tmp_path: Path, names: list[str], message: str) -> None:
    folder = write_adapter(tmp_path / "adapter", llama, seed=1)
    save_file({name: torch.zeros(4, 4) for name in names}, folder / ADAPTER_WEIGHTS)

    with pytest.raises(ModelRejected, match=message):
        AdapterSlot(model(llama)).use(folder)


def test_pickled_weights_are_never_opened(llama: Path, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter", llama, seed=1)
    (folder / ADAPTER_WEIGHTS).rename(folder / "adapter_model.bin")

    with pytest.raises(ModelRejected, match=r"has no adapter_model\.safetensors"):
        AdapterSlot(model(llama)).use(folder)


def test_a_folder_without_a_configuration_is_refused(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelRejected, match="not a LoRA adapter"):
        AdapterSlot(model(llama)).use(tmp_path)
