"""Base models in the operator's models folder: found, checked before anything is loaded, and identified by digest.

Only safetensors files are loaded. A folder with only pickled weights, or one that asks for remote code, is refused.
"""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from craft.contracts.spec.jobs import MODEL_ID, REVISION
from craft.contracts.stages.parameters import ModelRef
from craft.errors import ModelNotFound, ModelRejected
from craft.infra.models.chats.templates import check_chat_template

_WEIGHTS = "*.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_LARGEST_HEADER = 100 * 2**20
_MAX_NAMED = 10
_HASH_BLOCK = 1 << 20
_DESCRIBING = ("*.json", "*.jinja", "*.model", "*.txt", _WEIGHTS)


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder. `context_length` is in tokens."""

    ref: ModelRef
    path: Path
    architecture: str
    context_length: int


def served_path(ref: ModelRef) -> str:
    """The path in the models folder: a server that runs there loads the model by it, and adapters name it so."""
    return _folder_name(ref.id, ref.revision)


class ModelFolders:
    """Finds models in `<root>/<owner>/<name>` or `<root>/<name>`; `@revision` follows unless it is `main`."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._digests = _DigestCache(self._root / ".digests")
        self._known: set[tuple[str, str]] = set()

    def find(self, model_id: str, revision: str = "main") -> ModelFolder:
        """Find and check a folder.

        Raises ModelNotFound, and ModelRejected for only pickled weights, remote code, a broken header or a hostile chat
        template.
        """
        path = self._path(model_id, revision)
        config = _read_config(path / "config.json", model_id)
        _check_weights(path, model_id)
        architectures = config.get("architectures")
        architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
        if not architecture.endswith("ForCausalLM"):
            raise ModelRejected(
                f"{model_id} is a {architecture or 'model of no named architecture'}, not a causal language model.",
                hint="Choose a decoder-only chat model, e.g. a Llama, Qwen, Mistral or SmolLM checkpoint.",
                param="base_model",
            )
        check_chat_template(path)
        length = config.get("max_position_embeddings")
        digest = self._digests.digest(path)
        self._known.add((model_id, revision))
        return ModelFolder(
            ref=ModelRef(id=model_id, revision=revision, digest=digest),
            path=path,
            architecture=architecture,
            context_length=length if isinstance(length, int) else 2048,
        )

    def is_known(self, model_id: str, revision: str = "main") -> bool:
        """True if this process has the model's digest, so that `find` does not read the weights."""
        return (model_id, revision) in self._known

    def locate(self, ref: ModelRef) -> Path:
        """The folder of a resolved model. Raises ModelNotFound if it is missing or has changed."""
        folder = self.find(ref.id, ref.revision)
        if folder.ref.digest != ref.digest:
            raise ModelNotFound(
                f"{ref.id} has changed since the job was accepted.", hint="Submit the job again.", param="base_model"
            )
        return folder.path

    def _available(self) -> str:
        names = sorted(
            folder.relative_to(self._root).as_posix()
            for pattern in ("*/config.json", "*/*/config.json")
            for folder in (config.parent for config in self._root.glob(pattern))
        )
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        return f"There are {', '.join(names[:_MAX_NAMED])}{more}. " if names else ""

    def _path(self, model_id: str, revision: str) -> Path:
        if not re.match(MODEL_ID, model_id) or not re.match(REVISION, revision):
            raise ModelNotFound(f"{model_id!r} is not a model's name.", param="base_model")
        name = _folder_name(model_id, revision)
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root.resolve()) or not path.is_dir():
            raise ModelNotFound(
                f"There is no model {name} in the models folder.",
                hint=f"{self._available()}The operator of this installation adds others with `craft models fetch`.",
                param="base_model",
            )
        return path


def _folder_name(model_id: str, revision: str) -> str:
    return model_id if revision == "main" else f"{model_id}@{revision}"


def _read_config(path: Path, model_id: str) -> dict[str, object]:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelRejected(f"{model_id} has no readable config.json.", param="base_model") from error
    if not isinstance(config, dict):
        raise ModelRejected(f"{model_id}: config.json is not an object.", param="base_model")
    if "auto_map" in config:
        raise ModelRejected(
            f"{model_id} asks for its own code (auto_map), which is never run.",
            hint="Choose a model that transformers implements itself.",
            param="base_model",
        )
    return config


def _check_weights(path: Path, model_id: str) -> None:
    weights = list(path.glob(_WEIGHTS))
    if not weights:
        pickled = any(list(path.glob(pattern)) for pattern in _PICKLES)
        raise ModelRejected(
            f"{model_id} has {'pickled weights only' if pickled else 'no weights'}: safetensors is required.",
            hint="Convert the weights with `save_pretrained(safe_serialization=True)`.",
            param="base_model",
        )
    for file in weights:
        _check_header(file, model_id)


def _check_header(path: Path, model_id: str) -> None:
    """Refuse a safetensors file unless its header is JSON of a valid length, with offsets inside the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        sane = size >= 8 and 0 < length <= min(_LARGEST_HEADER, size - 8)
        header = file.read(length) if sane else b""
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        sane = all(isinstance(end, int) and 0 <= end <= size - 8 - length for end in ends)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        sane = False
    if not sane:
        raise ModelRejected(f"{model_id}: {path.name} is not a valid safetensors file.", param="base_model")


def _digest(path: Path) -> str:
    """SHA-256 of the names and bytes of all files that define the model."""
    files = sorted({file for pattern in _DESCRIBING for file in path.glob(pattern)})
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as handle:
            while block := handle.read(_HASH_BLOCK):
                digest.update(block)
    return digest.hexdigest()


class _DigestCache:
    """Digests stored beside the models, so that 16 GB are hashed once and not in every request and every worker.

    An entry is valid while no file's name, size or modification time has changed. Where the folder is read-only, each
    process keeps its own entries.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unwritten: dict[Path, tuple[list[list[object]], str]] = {}

    def digest(self, path: Path) -> str:
        signature = [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in sorted(path.iterdir()) if f.is_file()]
        entry = self._folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(entry.read_bytes())
            if known["signature"] == signature:
                return str(known["digest"])
        if path in self._unwritten and self._unwritten[path][0] == signature:
            return self._unwritten[path][1]
        digest = _digest(path)
        try:
            self._folder.mkdir(exist_ok=True)
            draft = entry.with_suffix(f".{uuid4().hex}")
            draft.write_text(json.dumps({"signature": signature, "digest": digest}), encoding="utf-8")
            draft.replace(entry)
        except OSError:
            self._unwritten[path] = (signature, digest)
        return digest
