"""Checks that a folder's files together are the one model that its config.json describes, before anything is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from craft.errors import ModelRejected
from craft.infra.models.architectures import Architecture, architecture_of
from craft.infra.models.layouts import EMBEDDING, HEAD, Shape
from craft.infra.models.model_config import ModelConfig, read_config
from craft.infra.models.weights import StoredTensor, Weights, read_weights

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_QUANTISED_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
_PLAIN_DTYPES = frozenset({"BF16", "F16", "F32", "F64"})
_BUFFERS = ("rotary_emb.inv_freq", "attention.bias", "attention.masked_bias", "rotary_emb.cos_cached",
            "rotary_emb.sin_cached")  # fmt: skip
"""Ends of the names of tensors that older checkpoints keep beside the weights; loaders compute them."""
_BF16 = "Fetch the bfloat16 checkpoint that it was made from: adapters are trained and compared on plain weights."
_WHOLE = "Fetch the whole checkpoint again with `craft models fetch`, or save the model with `save_pretrained`."


class CheckedModel(NamedTuple):
    """A folder that is one whole model."""

    config: ModelConfig
    architecture: Architecture
    weights: Weights


def check_checkpoint(folder: Path, model_id: str, *, experimental: bool) -> CheckedModel:
    """Check config.json, the weight files and their tensors against one another.

    Raises ModelRejected for an architecture that is not supported, quantised weights, an adapter in the folder, a
    missing or incomplete file, and tensors that are missing, unexpected or of another shape.
    """
    config = read_config(folder / "config.json", model_id)
    _check_no_adapter(folder, model_id)
    _check_method(folder, config)
    architecture = architecture_of(config, experimental=experimental)
    weights = read_weights(folder, model_id)
    _check_dtypes(weights, model_id)
    if architecture.layout is None:
        _check_layers(weights, config)
    else:
        expected = architecture.layout(config)
        # Where they are tied, files may hold the head too; loaders take the embedding for both.
        optional = {HEAD: expected[EMBEDDING]} if HEAD not in expected else {}
        _check_tensors(weights.tensors, expected, optional, model_id)
    _ = config.context_length
    return CheckedModel(config, architecture, weights)


def is_computed(name: str) -> bool:
    """True for a tensor that older checkpoints keep beside the weights and that loaders compute."""
    return name.endswith(_BUFFERS)


def check_ids(highest: int, rows: int, name: str) -> None:
    """Raises ModelRejected if the tokenizer's highest id is not among the `rows` of the embedding."""
    if highest >= rows:
        raise ModelRejected(
            f"{name}: the tokenizer has ids up to {highest:,}, but the model's embedding has {rows:,} rows.",
            hint="Take the tokenizer from the same checkpoint as the weights; or, where tokens were added, save the "
            "model after `resize_token_embeddings`.",
            param="base_model",
        )


def _check_no_adapter(folder: Path, model_id: str) -> None:
    left = [name for name in _ADAPTER_FILES if (folder / name).exists()]
    if left:
        raise ModelRejected(
            f"{model_id} holds an adapter beside the model ({left[0]}). transformers would put it on top of the "
            "model without a word, other loaders would not.",
            hint="Move the adapter's files out of the folder; or merge it into the model (`merge_and_unload`) and save "
            "that alone.",
            param="base_model",
        )


def _check_method(folder: Path, config: ModelConfig) -> None:
    method = config.quantisation
    file = next((name for name in _QUANTISED_FILES if (folder / name).is_file()), None)
    if method is not None or file is not None:
        raise ModelRejected(
            f"{config.model_id} is quantised ({method or file}), and quantised weights cannot be tuned here.",
            hint=_BF16,
            param="base_model",
        )


def _check_dtypes(weights: Weights, model_id: str) -> None:
    for name, tensor in weights.tensors.items():
        if tensor.dtype not in _PLAIN_DTYPES and not is_computed(name):
            raise ModelRejected(
                f"{model_id} is quantised: {name[:100]} is stored as {tensor.dtype[:20]}.",
                hint=_BF16,
                param="base_model",
            )


def _check_tensors(
    stored: Mapping[str, StoredTensor], expected: Mapping[str, Shape], optional: Mapping[str, Shape], model_id: str
) -> None:
    if missing := sorted(set(expected) - set(stored)):
        raise ModelRejected(
            f"{model_id} is incomplete: its files lack {len(missing):,} of the {len(expected):,} tensors that its "
            f"config.json calls for, first {missing[0][:100]}. They would be set at random.",
            hint=_WHOLE,
            param="base_model",
        )
    known = {**expected, **optional}
    unexpected = sorted(name for name in stored if name not in known and not is_computed(name))
    if unexpected:
        raise ModelRejected(
            f"{model_id} holds {len(unexpected):,} tensors that its config.json does not call for, first "
            f"{unexpected[0][:100]}. They would be left out.",
            hint="Take config.json from the checkpoint that the weights come from, or save the model with "
            "`save_pretrained`.",
            param="base_model",
        )
    for name, shape in known.items():
        if name in stored and stored[name].shape != shape:
            raise ModelRejected(
                f"{model_id}: {name[:100]} has the shape {list(stored[name].shape)}; config.json calls for "
                f"{list(shape)}.",
                hint="Take config.json from the checkpoint that the weights come from.",
                param="base_model",
            )


def _check_layers(weights: Weights, config: ModelConfig) -> None:
    """Check a model without a layout: each of its layers must have tensors."""
    layers = config.number("num_hidden_layers")
    numbers = {int(part) for name in weights.tensors for part in name.split(".") if part.isdecimal() and len(part) < 6}
    absent = [layer for layer in range(layers) if layer not in numbers]
    if absent:
        raise ModelRejected(
            f"{config.model_id} is incomplete: none of its tensors belongs to layer {absent[0]} of {layers}.",
            hint=_WHOLE,
            param="base_model",
        )
