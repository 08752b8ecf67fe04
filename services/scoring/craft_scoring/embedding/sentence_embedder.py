"""Sentence embeddings by sentence-transformers, from local folders only. Only this file imports the library."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import numpy as np
import sentence_transformers
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from craft.contracts.spec.jobs import MODEL_ID
from craft.errors import ModelNotFound, ModelRejected
from craft.infra.device.choice import Device
from craft.infra.device.cuda import torch_device
from craft_scoring.embedding.embedder import Embedder


class SentenceEmbedder:
    """One loaded model. Calls are serialised, because two threads must not run a model's forward pass together."""

    def __init__(self, folder: Path, *, name: str, batch: int, device: Device) -> None:
        """The library itself would take a GPU wherever it sees one."""
        _check(folder, name)
        self._model = SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"use_safetensors": True},
        )
        self._batch = batch
        self._lock = Lock()
        self.version = f"{name} (sentence-transformers {sentence_transformers.__version__})"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `Embedder.embed`. The library itself sorts by length, so that a batch has little padding."""
        with self._lock:
            rows = self._model.encode(
                list(texts), batch_size=self._batch, show_progress_bar=False, convert_to_numpy=True
            )
        return np.asarray(rows, dtype=np.float32)


class SentenceEmbedders:
    """Finds embedders by name below the models folder and keeps them loaded."""

    def __init__(self, models_dir: Path, *, batch: int, device: Device = "cpu") -> None:
        """Raises DeviceFailed if the device cannot be used."""
        self._root = models_dir
        self._batch = batch
        self._device: Device = torch_device(device, setting="CRAFT_SCORING__DEVICE")
        self._loaded: dict[str, Embedder] = {}
        self._lock = Lock()

    def __call__(self, name: str) -> Embedder:
        """See `EmbedderSource`."""
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = SentenceEmbedder(
                    self._folder(name), name=name, batch=self._batch, device=self._device
                )
            return self._loaded[name]

    def _folder(self, name: str) -> Path:
        folder = (self._root / name).resolve() if re.match(MODEL_ID, name) else None
        if folder is None or not folder.is_relative_to(self._root.resolve()) or not folder.is_dir():
            raise ModelNotFound(
                f"There is no sentence embedder {name!r} in the models folder.",
                hint="Fetch it with `craft models fetch`, or put its folder below the models folder.",
                param="embedder",
            )
        return folder


def _check(folder: Path, name: str) -> None:
    """Refuse pickled weights and foreign modules: the library imports each `type` in modules.json by its name."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        types = [str(module["type"]) for module in modules]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelRejected(f"{name} has no readable modules.json.", param="embedder") from error
    if not all(kind.startswith("sentence_transformers.") for kind in types):
        raise ModelRejected(f"{name} asks for modules that are not the library's own.", param="embedder")
    if not list(folder.rglob("*.safetensors")):
        raise ModelRejected(f"{name} has no safetensors weights, and no other format is loaded.", param="embedder")
