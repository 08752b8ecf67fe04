"""Checkpoints of zeros that pass every check of a model folder, made without torch."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from craft.infra.models import layouts
from craft.infra.models.layouts import Layout
from craft.infra.models.model_config import ModelConfig

LLAMA: Mapping[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 512,
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 400,
    "tie_word_embeddings": True,
}


def tensors_of(config: Mapping[str, object], layout: Layout = layouts.llama) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that the checkpoint of this configuration has."""
    return layout(ModelConfig("test", config))


def safetensors(shapes: Mapping[str, Sequence[int]], *, dtype: str = "BF16", fill: bytes = b"\0") -> bytes:
    """A safetensors file of these tensors, in 16 bits, with every byte equal to `fill`."""
    at, entries = 0, {}
    for tensor, shape in shapes.items():
        size = 2 * math.prod(shape)
        entries[tensor] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + fill * at


def write_checkpoint(folder: Path, *, layout: Layout = layouts.llama, **config: Any) -> Path:
    """Write config.json and model.safetensors of a tiny Llama, with these changes to its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {**LLAMA, **config}
    (folder / "config.json").write_text(json.dumps(entries))
    (folder / "model.safetensors").write_bytes(safetensors(tensors_of(entries, layout)))
    return folder


def write_shards(folder: Path, *, layout: Layout = layouts.llama, **config: Any) -> Path:
    """Write the same checkpoint as two files with an index."""
    shapes = tensors_of({**LLAMA, **config}, layout)
    (write_checkpoint(folder, layout=layout, **config) / "model.safetensors").unlink()
    names = sorted(shapes)
    parts = {1: names[::2], 2: names[1::2]}
    file = {name: f"model-0000{part}-of-00002.safetensors" for part, group in parts.items() for name in group}
    for group in parts.values():
        (folder / file[group[0]]).write_bytes(safetensors({name: shapes[name] for name in group}))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": file}))
    return folder
