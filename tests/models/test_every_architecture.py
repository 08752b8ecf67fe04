"""Every architecture of the table goes its whole way, and its numbers are transformers' own."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.random_families import FAMILIES, random_model
from tests.models.way import NEW_TOKENS, QUESTIONS, Killed, Way
from transformers import AutoModelForCausalLM

from craft.errors import AdapterUnservable
from craft.infra.models.architectures import TABLE
from craft_inference.engine import Sampling
from craft_training.tuning.answer_trainer import answer_logits
from craft_training.tuning.batches import batches_of, may_pack
from craft_training.tuning.samples import tokenise

pytestmark = [
    pytest.mark.models,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # PEFT's own
]
GREEDY = Sampling(max_new_tokens=NEW_TOKENS)
SAMPLED = Sampling(max_new_tokens=NEW_TOKENS, samples=3, temperature=1.0, seed=5)
WEIGHTS = "adapter_model.safetensors"
TOLERANCE = 2e-3
"""Of log-probabilities in float32, whose sums are added in another order."""


def test_every_row_of_the_table_has_a_family() -> None:
    assert {family.architecture for family in FAMILIES} == {row.name for row in TABLE}


def test_the_folder_is_taken_on_the_paths_that_the_table_names(way: Way) -> None:
    row = way.folder.architecture
    assert (row.name, row.model_type) == (way.family.architecture, way.family.model_type)
    assert way.engine.describe().attention == way.family.engine.value
    assert may_pack(way.base.model.config) is (way.family.training.value == "packed")


def test_the_familys_features_show_in_its_numbers(way: Way) -> None:
    """Otherwise a path that leaves them out would pass."""
    if not way.family.plain_form:
        pytest.skip("It has no feature that a setting switches off.")
    plain = random_model(way.family, layers=way.layers, **way.family.plain_form)
    plain.load_state_dict(way.reference.state_dict())
    difference = (way.expected_letters(plain) - way.expected_letters()).abs().max()
    assert difference > 20 * TOLERANCE, f"{difference:.4f}"


def test_greedy_replies_are_transformers_own(way: Way) -> None:
    assert way.replies(GREEDY) == way.expected_replies()


def test_samples_do_not_depend_on_the_other_prompts(way: Way) -> None:
    together = way.replies(SAMPLED)
    assert together == way.replies(SAMPLED, together=False)
    assert len({text for texts in together for text in texts}) > len(QUESTIONS)


def test_letters_have_transformers_probabilities(way: Way) -> None:
    assert (way.letters() - way.expected_letters()).abs().max() < TOLERANCE


def test_letters_in_16_bits_are_as_near_as_transformers_own(way: Way, *, long: bool) -> None:
    if not long:
        pytest.skip("Only with --long.")
    exact = way.expected_letters()
    model: Any = AutoModelForCausalLM.from_pretrained(
        way.folder.path, dtype=torch.bfloat16, attn_implementation="eager"
    )
    usual = (way.expected_letters(model.eval()) - exact).abs().mean()
    assert (way.letters(engine=way.engine_in_16_bits) - exact).abs().mean() < 2 * usual + 0.05


def test_a_batch_of_training_has_the_logits_of_each_row_alone(way: Way) -> None:
    base = way.base
    samples = tokenise(way.rows(), base.chat, max_length=2048).samples
    [batch] = batches_of(samples, packed=may_pack(base.model.config), max_tokens=100_000)
    with torch.inference_mode():
        logits = answer_logits(base.model, batch, autocast=False)
        alone = [
            way.reference(torch.tensor([sample.tokens]), use_cache=False).logits[0, sample.prompt_length - 1 : -1]
            for sample in samples
        ]
    expected = torch.cat(alone).float()
    assert (logits.log_softmax(-1) - expected.log_softmax(-1)).abs().max() < TOLERANCE


@pytest.fixture(scope="module")
def adapter(way: Way) -> Path:
    """The adapter of a tuning of two steps that was killed in the second, with the first one saved."""
    with pytest.raises(Killed):
        way.tune("killed", killed_in=2)
    resumed = way.tune("killed")
    assert (resumed.counts["steps"], resumed.counts["resumed_at_step"]) == (2, 1)
    return way.root / "killed" / "adapter"


def test_a_tuning_that_was_killed_gives_the_adapter_of_one_that_was_not(way: Way, adapter: Path) -> None:
    way.tune("whole")
    resumed, whole = load_file(adapter / WEIGHTS), load_file(way.root / "whole/adapter" / WEIGHTS)
    assert resumed.keys() == whole.keys()
    assert all(torch.allclose(resumed[name], whole[name], atol=1e-6) for name in whole)


def test_an_adapter_reaches_the_layers_that_the_table_names(way: Way, adapter: Path) -> None:
    names = load_file(adapter / WEIGHTS)
    adapted = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in names}
    linear = {name for name, each in way.reference.named_modules() if isinstance(each, torch.nn.Linear)}
    if way.folder.architecture.experts:
        linear = {name for name in linear if ".self_attn." in name}
    assert adapted == linear - {"lm_head"}
    assert way.folder.architecture.experts is any(".experts." in name for name in way.folder.weights.tensors)


def test_the_engine_and_peft_give_the_adapters_numbers(way: Way, adapter: Path) -> None:
    expected = way.expected_letters(way.with_adapter(adapter))
    assert (way.letters(adapter=adapter) - expected).abs().max() < TOLERANCE
    assert (way.letters(adapter=adapter) - way.letters()).abs().max() > 20 * TOLERANCE
    assert (way.letters() - way.expected_letters()).abs().max() < TOLERANCE


def test_the_package_gives_the_engines_replies(way: Way, adapter: Path) -> None:
    served = [texts[0] for texts in way.replies(GREEDY, adapter=adapter)]
    assert served != [texts[0] for texts in way.replies(GREEDY)]
    result = way.package(adapter, served, "served")
    assert result.metrics["agreeing_share"] == 1.0
    assert (way.root / "served-package" / "adapter" / "README.md").is_file()


def test_an_adapter_without_an_effect_fails_its_package(way: Way, adapter: Path) -> None:
    idle = way.root / "idle" / "adapter"
    shutil.copytree(adapter, idle)
    weights = load_file(idle / WEIGHTS)
    save_file({name: value * ("lora_A" in name) for name, value in weights.items()}, idle / WEIGHTS)
    served = [texts[0] for texts in way.replies(GREEDY, adapter=idle)]
    with pytest.raises(AdapterUnservable, match="changes nothing"):
        way.package(idle, served, "idle")
