"""The language model of a checkpoint for images, saved alone, gives the whole checkpoint's numbers for text."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.random_families import WINDOW
from tests.services.inference.conftest import byte_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

from craft.errors import ModelRejected
from craft.infra.models.folders import ModelFolders
from craft_inference.model_import import import_text, main

pytestmark = pytest.mark.models
TEXT = {
    "vocab_size": 262,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.35,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EYES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14}  # fmt: skip
GEMMA: dict[str, Any] = {
    "text_config": {**TEXT, "sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
    "vision_config": EYES,
    "mm_tokens_per_image": 4,
    "image_token_index": 260,
    "boi_token_index": 258,
    "eoi_token_index": 259,
}
MISTRAL: dict[str, Any] = {
    "text_config": {**TEXT, "model_type": "mistral", "sliding_window": None},
    "vision_config": {**EYES, "model_type": "pixtral", "head_dim": 8},
    "image_token_index": 260,
    "tie_word_embeddings": False,
}


def write_whole(folder: Path, model_type: str, settings: dict[str, Any]) -> Any:
    """A random model for images and text, with a tokenizer."""
    torch.manual_seed(3)
    factory: Any = AutoModelForImageTextToText
    model = factory.from_config(AutoConfig.for_model(model_type, **settings)).eval()
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("model_type", "settings", "architecture"),
    [("gemma3", GEMMA, "Gemma3ForCausalLM"), ("mistral3", MISTRAL, "MistralForCausalLM")],
)
def test_a_language_model_alone_gives_the_whole_models_numbers(
    tmp_path: Path, model_type: str, settings: dict[str, Any], architecture: str
) -> None:
    whole = write_whole(tmp_path / "owner/large", model_type, settings)
    with pytest.raises(ModelRejected) as refused:
        ModelFolders(tmp_path).find("owner/large")
    assert "craft models text" in (refused.value.hint or "")
    assert import_text(tmp_path / "owner/large", tmp_path) == tmp_path / "owner/large-text"
    found = ModelFolders(tmp_path).find("owner/large-text")
    assert (found.architecture.name, found.context_length) == (architecture, 512)
    alone: Any = AutoModelForCausalLM.from_pretrained(found.path)
    tokens = torch.randint(3, 250, (1, 3 * WINDOW))
    with torch.inference_mode():
        expected = whole(input_ids=tokens, token_type_ids=torch.zeros_like(tokens)).logits if model_type == "gemma3" \
            else whole(input_ids=tokens).logits  # fmt: skip
        assert torch.allclose(alone.eval()(input_ids=tokens).logits, expected, atol=1e-5)


def test_a_language_model_of_an_unsupported_architecture_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "owner/large"
    write_whole(folder, "mistral3", MISTRAL)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["model_type"] = "mamba"
    (folder / "config.json").write_text(json.dumps(config))
    assert main(["text", str(folder), str(tmp_path)]) == 1
    assert [path.name for path in (tmp_path / "owner").iterdir()] == ["large"]


def test_a_text_model_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    with pytest.raises(ModelRejected, match="is a text model already"):
        import_text(tmp_path / "small", tmp_path)
