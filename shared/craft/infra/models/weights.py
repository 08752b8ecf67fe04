"""The weight files of a model folder that loaders read, and the tensors that their headers name. No tensor is read."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from craft.errors import ModelRejected

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PATTERN = "*.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_LARGEST_HEADER = 100 * 2**20
_LARGEST_INDEX = 50 * 2**20
_FETCH = "Fetch the whole checkpoint again: `craft models fetch` puts it in place only when it is complete."
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file. `dtype` is safetensors' word, such as BF16."""

    shape: Shape
    dtype: str


@dataclass(frozen=True, slots=True)
class Weights:
    """The files that count, and their tensors by name. `unread`: safetensors files beside them that no loader needs."""

    files: tuple[Path, ...]
    tensors: Mapping[str, StoredTensor]
    unread: tuple[str, ...] = ()
    indexed: bool = False

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())


def read_weights(folder: Path, model_id: str) -> Weights:
    """Find the files as transformers does: model.safetensors, else the files that the index names.

    Raises ModelRejected for pickled weights, for a file that is broken, cut short or missing, for a tensor that the
    index promises and no file holds, and for two checkpoints in one folder.
    """
    found = {path.name: path for path in sorted(folder.glob(_PATTERN))}
    if not found:
        raise _without_safetensors(folder, model_id)
    promised = _read_index(folder / INDEX, model_id)
    files = _files(found, promised, model_id)
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        tensors |= _header(file, model_id)
    if lacking := sorted(set(promised or ()) - set(tensors)):
        raise ModelRejected(
            f"{model_id} is incomplete: {INDEX} names {len(lacking)} tensors that no file holds, first "
            f"{lacking[0][:100]}.",
            hint=_FETCH,
            param="base_model",
        )
    unread = tuple(sorted(set(found) - {file.name for file in files}))
    return Weights(files, tensors, unread, indexed=promised is not None)


def _without_safetensors(folder: Path, model_id: str) -> ModelRejected:
    if (folder / INDEX).is_file():
        return ModelRejected(
            f"{model_id} is incomplete: none of the files that {INDEX} names is there.", hint=_FETCH, param="base_model"
        )
    gguf = any(folder.glob("*.gguf"))
    pickled = any(any(folder.glob(pattern)) for pattern in _PICKLES)
    kind = "quantised GGUF weights only" if gguf else "pickled weights only" if pickled else "no weights"
    hint = (
        "Fetch the bfloat16 checkpoint that the GGUF file was made from."
        if gguf
        else "Convert the weights with `save_pretrained(safe_serialization=True)`."
    )
    return ModelRejected(f"{model_id} has {kind}: safetensors is required.", hint=hint, param="base_model")


def _files(found: Mapping[str, Path], promised: Mapping[str, str] | None, model_id: str) -> tuple[Path, ...]:
    if promised is None:
        if WHOLE in found:
            return (found[WHOLE],)
        raise ModelRejected(
            f"{model_id} has neither {WHOLE} nor {INDEX}, so nothing says which of its files are the weights: "
            f"{', '.join(found)[:200]}.",
            hint=_FETCH,
            param="base_model",
        )
    names = sorted(set(promised.values()))
    if missing := [name for name in names if name not in found]:
        raise ModelRejected(
            f"{model_id} is incomplete: {len(missing)} of the {len(names)} files that {INDEX} names are missing, "
            f"first {missing[0][:100]}.",
            hint=_FETCH,
            param="base_model",
        )
    if WHOLE in found and WHOLE not in names:
        # transformers would load the one, vLLM the other.
        raise ModelRejected(
            f"{model_id} holds two checkpoints: {WHOLE}, and the files that {INDEX} names.",
            hint="Remove the one that is not meant.",
            param="base_model",
        )
    return tuple(found[name] for name in names)


def _read_index(path: Path, model_id: str) -> Mapping[str, str] | None:
    """The file of each tensor; None without an index."""
    if not path.is_file():
        return None
    sane = path.stat().st_size <= _LARGEST_INDEX
    names: Any = None
    try:
        names = json.loads(path.read_bytes())["weight_map"] if sane else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        sane = False
    sane = sane and isinstance(names, dict) and bool(names)
    if not sane or not all(isinstance(name, str) and PurePosixPath(name).name == name for name in names.values()):
        raise ModelRejected(f"{model_id}: {INDEX} is not a readable index.", hint=_FETCH, param="base_model")
    result: dict[str, str] = names
    return result


def _header(path: Path, model_id: str) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file. Raises ModelRejected unless its header is valid, with offsets in the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        sane = size >= 8 and 0 < length <= min(_LARGEST_HEADER, size - 8)
        header = file.read(length) if sane else b""
    tensors: dict[str, StoredTensor] = {}
    try:
        for name, entry in json.loads(header).items():
            if name == "__metadata__":
                continue
            end, shape = entry["data_offsets"][1], entry["shape"]
            sane = sane and isinstance(end, int) and 0 <= end <= size - 8 - length
            sane = sane and all(isinstance(side, int) and side >= 0 for side in shape)
            tensors[name] = StoredTensor(tuple(shape), str(entry["dtype"]))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        sane = False
    if not sane:
        raise ModelRejected(
            f"{model_id}: {path.name} is not a valid safetensors file: it is damaged, or not wholly downloaded.",
            hint=_FETCH,
            param="base_model",
        )
    return tensors
