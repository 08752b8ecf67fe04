"""Adapters of this base model and of others."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from craft.errors import ModelRejected
from craft_inference.adapter_shapes import check_fits, write_neutral_adapter


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two files, as large models have."""
    save_file({"model.layers.0.q_proj.weight": np.zeros((12, 8), np.float32)}, tmp_path / "model-1.safetensors")
    save_file({"model.layers.1.q_proj.weight": np.zeros((6, 8), np.float32)}, tmp_path / "model-2.safetensors")
    return tmp_path


def adapter(folder: Path, layer: str, down: tuple[int, int], up: tuple[int, int]) -> Path:
    folder = folder / "adapter"
    folder.mkdir()
    name = f"base_model.model.model.layers.{layer}.q_proj"
    weights = {
        f"{name}.lora_A.weight": np.zeros(down, np.float32),
        f"{name}.lora_B.weight": np.zeros(up, np.float32),
    }
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize(("layer", "outputs"), [("0", 12), ("1", 6)])
def test_an_adapter_of_this_model_fits(model: Path, layer: str, outputs: int) -> None:
    check_fits(adapter(model, layer, (4, 8), (outputs, 4)), model)


@pytest.mark.parametrize(
    ("layer", "down", "up"),
    [("0", (4, 7), (12, 4)), ("0", (4, 8), (11, 4)), ("1", (4, 8), (12, 4)), ("2", (4, 8), (6, 4))],
)
def test_an_adapter_of_another_model_does_not(
    model: Path, layer: str, down: tuple[int, int], up: tuple[int, int]
) -> None:
    with pytest.raises(ModelRejected, match="does not belong"):
        check_fits(adapter(model, layer, down, up), model)


def test_a_file_that_is_no_safetensors_is_refused(model: Path) -> None:
    folder = adapter(model, "0", (4, 8), (12, 4))
    (folder / "adapter_model.safetensors").write_bytes(b"not at all")
    with pytest.raises(ModelRejected, match="cannot be read"):
        check_fits(folder, model)


def test_a_neutral_adapter_belongs_to_its_model_and_changes_nothing(model: Path, tmp_path: Path) -> None:
    assert write_neutral_adapter(tmp_path / "neutral", model)
    check_fits(tmp_path / "neutral", model)
    weights = load_file(tmp_path / "neutral" / "adapter_model.safetensors")
    assert len(weights) == 2
    assert not any(array.any() for array in weights.values())
    config = json.loads((tmp_path / "neutral" / "adapter_config.json").read_text())
    assert (config["r"], config["target_modules"]) == (8, ["q_proj"])


def test_a_model_of_unusual_layers_has_none(tmp_path: Path) -> None:
    save_file({"backbone.mixer.weight": np.zeros((12, 8), np.float32)}, tmp_path / "model.safetensors")
    assert not write_neutral_adapter(tmp_path / "neutral", tmp_path)
    assert not (tmp_path / "neutral").exists()
