"""A folder is taken only if its files together are the one model that its config.json describes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.model_files import LLAMA, safetensors, tensors_of, write_checkpoint, write_shards

from craft.errors import ModelRejected
from craft.infra.models import layouts
from craft.infra.models.checkpoint import CheckedModel, check_checkpoint
from craft.infra.models.shape import read_shape

EXPERTS: dict[str, Any] = {
    "architectures": ["MixtralForCausalLM"],
    "num_local_experts": 2,
    "tie_word_embeddings": False,
}


def checked(folder: Path, *, experimental: bool = False) -> CheckedModel:
    return check_checkpoint(folder, "owner/tiny", experimental=experimental)


def refusal(folder: Path) -> ModelRejected:
    with pytest.raises(ModelRejected) as caught:
        checked(folder)
    assert caught.value.param == "base_model"
    assert caught.value.hint
    return caught.value


def with_tensors(folder: Path, change: Callable[[dict[str, tuple[int, ...]]], object], **config: Any) -> Path:
    """A checkpoint whose file has other tensors than its configuration calls for."""
    write_checkpoint(folder, **config)
    shapes = tensors_of({**LLAMA, **config})
    change(shapes)
    (folder / "model.safetensors").write_bytes(safetensors(shapes))
    return folder


@pytest.mark.parametrize("name", sorted(tensors_of(LLAMA)))
def test_a_checkpoint_that_lacks_any_one_tensor_is_refused(tmp_path: Path, name: str) -> None:
    folder = with_tensors(tmp_path, lambda shapes: shapes.pop(name))
    error = refusal(folder)
    assert "is incomplete: its files lack 1 of the" in error.message
    assert name in error.message


def test_a_checkpoint_that_lacks_a_whole_layer_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "num_hidden_layers": 2}))
    assert "lack 9 of the 20 tensors" in refusal(tmp_path).message


def test_a_head_of_its_own_is_called_for_where_it_is_not_tied(tmp_path: Path) -> None:
    folder = with_tensors(tmp_path / "lacking", lambda shapes: shapes.pop("lm_head.weight"),
                          tie_word_embeddings=False)  # fmt: skip
    assert "lm_head.weight" in refusal(folder).message
    assert checked(write_checkpoint(tmp_path / "whole", tie_word_embeddings=False)).architecture.name
    both = with_tensors(tmp_path / "both", lambda shapes: shapes.update({"lm_head.weight": (400, 64)}))
    assert checked(both).architecture.name


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.q_proj.bias", "model.layers.1.mlp.up_proj.weight", "v_head.weight"]
)
def test_a_tensor_that_would_be_left_out_is_told(tmp_path: Path, name: str) -> None:
    error = refusal(with_tensors(tmp_path, lambda shapes: shapes.update({name: (64,)})))
    assert f"1 tensors that its config.json does not call for, first {name}" in error.message


def test_tensors_that_loaders_compute_are_no_matter(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    assert checked(with_tensors(tmp_path, lambda shapes: shapes.update({name: (8,)}))).weights


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "num_key_value_heads": 4}))
    assert "model.layers.0.self_attn.k_proj.weight has the shape [32, 64]" in refusal(tmp_path).message


@pytest.mark.parametrize("lost", [0, 1])
def test_a_download_that_broke_off_is_refused(tmp_path: Path, lost: int) -> None:
    write_shards(tmp_path)
    assert len(checked(tmp_path).weights.files) == 2
    sorted(tmp_path.glob("*.safetensors"))[lost].unlink()
    error = refusal(tmp_path)
    assert "1 of the 2 files that model.safetensors.index.json names are missing" in error.message
    assert "craft models fetch" in (error.hint or "")


def test_an_index_alone_is_a_download_that_broke_off(tmp_path: Path) -> None:
    write_shards(tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    assert "none of the files" in refusal(tmp_path).message


def test_a_tensor_that_the_index_promises_and_no_file_holds_is_told(tmp_path: Path) -> None:
    index = write_shards(tmp_path) / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.layers.7.more"] = next(iter(content["weight_map"].values()))
    index.write_text(json.dumps(content))
    assert "model.layers.7.more" in refusal(tmp_path).message


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 3}}',
                                     '{"weight_map": {"a": "../outside.safetensors"}}'])  # fmt: skip
def test_an_index_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    (write_shards(tmp_path) / "model.safetensors.index.json").write_text(content)
    assert "is not a readable index" in refusal(tmp_path).message


def test_shards_without_their_index_are_refused(tmp_path: Path) -> None:
    (write_shards(tmp_path) / "model.safetensors.index.json").unlink()
    assert "nothing says which of its files" in refusal(tmp_path).message


def test_two_checkpoints_in_one_folder_are_refused(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(safetensors(tensors_of(LLAMA)))
    assert "holds two checkpoints" in refusal(tmp_path).message


@pytest.mark.parametrize("write", [write_checkpoint, write_shards])
def test_a_second_copy_under_other_names_is_neither_counted_nor_read(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    folder = write(tmp_path)
    before = read_shape(folder)
    (folder / "consolidated.safetensors").write_bytes(safetensors({"layers.0.attention.wq.weight": (64, 64)}))
    assert read_shape(folder) == before
    assert checked(folder).weights.unread == ("consolidated.safetensors",)


@pytest.mark.parametrize(
    "config",
    [
        {"quantization_config": {"quant_method": "awq"}},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"quantization_config": {"quant_method": "fp8"}},
        {"quantization_config": {"quant_method": "mxfp4"}},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        {"quantization_config": {"load_in_8bit": True}},
        {"compression_config": {"format": "pack-quantized"}},
    ],
)
def test_a_quantised_checkpoint_is_refused_by_its_configuration(tmp_path: Path, config: dict[str, Any]) -> None:
    error = refusal(write_checkpoint(tmp_path, **config))
    assert "is quantised" in error.message
    assert "bfloat16 checkpoint" in (error.hint or "")


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json", "hf_quant_config.json"])
def test_a_quantised_checkpoint_is_refused_by_its_files(tmp_path: Path, name: str) -> None:
    (write_checkpoint(tmp_path) / name).write_text("{}")
    assert f"is quantised ({name})" in refusal(tmp_path).message


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "I8", "U8", "I32"])
def test_a_quantised_checkpoint_is_refused_by_its_tensors(tmp_path: Path, dtype: str) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(safetensors(tensors_of(LLAMA), dtype=dtype))
    assert f"is stored as {dtype}" in refusal(tmp_path).message


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_left_in_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (write_checkpoint(tmp_path) / name).write_bytes(b"{}")
    assert "holds an adapter beside the model" in refusal(tmp_path).message


@pytest.mark.parametrize("name", ["max_position_embeddings", "hidden_size", "num_hidden_layers", "vocab_size"])
@pytest.mark.parametrize("value", [None, "many", 0, -1, True, 2.5])
def test_a_size_that_config_json_does_not_say_is_asked_for(tmp_path: Path, name: str, value: object) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, name: value}))
    assert f"{name} is" in refusal(tmp_path).message


def test_a_model_whose_rotary_frequencies_change_ends_where_they_do(tmp_path: Path) -> None:
    rope = {"type": "longrope", "short_factor": [1.0], "long_factor": [4.0]}
    config = {
        "architectures": ["Phi3ForCausalLM"],
        "original_max_position_embeddings": 128,
        "rope_scaling": rope,
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
        "tie_word_embeddings": False,
    }
    long = write_checkpoint(tmp_path / "long", layout=layouts.phi3, **config)
    assert checked(long).config.context_length == 128
    stretched = write_checkpoint(tmp_path / "yarn", rope_scaling={"rope_type": "yarn", "factor": 4.0})
    assert checked(stretched).config.context_length == 512


def test_experts_are_not_counted_as_adapted(tmp_path: Path) -> None:
    from craft.contracts.spec.jobs import TrainingSettings

    shape = read_shape(write_checkpoint(tmp_path, layout=layouts.mixtral, **EXPERTS))
    attention = 4 * 64 + 2 * (64 + 32)
    assert shape.lora_parameters(TrainingSettings(lora_r=1)) == attention
    assert shape.parameters > 2 * 3 * 64 * 64


def test_an_expert_that_is_missing_is_told(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, layout=layouts.mixtral, **EXPERTS)
    shapes = tensors_of({**LLAMA, **EXPERTS}, layouts.mixtral)
    del shapes["model.layers.0.block_sparse_moe.experts.1.w2.weight"]
    (folder / "model.safetensors").write_bytes(safetensors(shapes))
    assert "experts.1.w2.weight" in refusal(folder).message
