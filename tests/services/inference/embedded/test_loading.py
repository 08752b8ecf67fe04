"""A model of whose files transformers would make another one is not loaded, also where nobody checked its folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from craft.errors import ModelRejected
from craft_inference.embedded.engine import TransformersEngine

Tensors = dict[str, Tensor]


def without_a_norm(tensors: Tensors) -> Tensors:
    return {name: value for name, value in tensors.items() if name != "model.norm.weight"}


def with_a_bias(tensors: Tensors) -> Tensors:
    name = "model.layers.0.self_attn.q_proj.weight"
    return {**tensors, name.replace("weight", "bias"): tensors[name][:, 0].clone()}


def with_a_computed_buffer(tensors: Tensors) -> Tensors:
    return {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": tensors["model.norm.weight"].clone()}


def changed(folder: Path, source: Path, change: Callable[[Tensors], Tensors]) -> Path:
    shutil.copytree(source, folder)
    tensors = change(load_file(source / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_a_norm, "the checkpoint lacks 1 tensors, first model.norm.weight"),
        (with_a_bias, "has no place for 1 tensors, first model.layers.0.self_attn.q_proj.bias"),
    ],
)
def test_a_checkpoint_of_which_another_model_would_be_made_is_refused(
    tmp_path: Path, llama: Path, change: Callable[[Tensors], Tensors], words: str
) -> None:
    with pytest.raises(ModelRejected) as caught:
        TransformersEngine.load(changed(tmp_path / "model", llama, change), dtype="float32")
    assert words in caught.value.message
    assert caught.value.hint


def test_a_tensor_that_loaders_compute_is_no_matter(tmp_path: Path, llama: Path) -> None:
    folder = changed(tmp_path / "model", llama, with_a_computed_buffer)
    assert TransformersEngine.load(folder, dtype="float32").describe().context_length == 512


def test_a_tokenizer_with_an_id_behind_the_embedding_is_refused(tmp_path: Path, llama: Path) -> None:
    folder = changed(tmp_path / "model", llama, dict)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    number = len(tokenizer["model"]["vocab"])
    added = [{**tokenizer["added_tokens"][0], "id": at, "content": f"<|more{at}|>"} for at in range(number, 263)]
    tokenizer["added_tokens"] += added
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ModelRejected, match="embedding has 262 rows"):
        TransformersEngine.load(folder, dtype="float32")
