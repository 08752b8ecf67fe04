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
from craft.errors import ModelNotFound
from craft.infra.models.architectures import Architecture
from craft.infra.models.chats.templates import check_chat_template
from craft.infra.models.checkpoint import CheckedModel, check_checkpoint
from craft.infra.models.layouts import EMBEDDING
from craft.infra.models.weights import Weights

_MAX_NAMED = 10
_HASH_BLOCK = 1 << 20
_DESCRIBING = ("*.json", "*.jinja", "*.model", "*.txt")
Signature = list[list[object]]
"""The names, sizes and modification times of a folder's files."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A checked model folder. `context_length` is in tokens."""

    ref: ModelRef
    path: Path
    architecture: Architecture
    context_length: int
    weights: Weights

    @property
    def embedding_rows(self) -> int | None:
        """The number of token ids that the model has a row for; None where its layout is not known."""
        embedding = self.weights.tensors.get(EMBEDDING)
        return embedding.shape[0] if embedding else None


def served_path(ref: ModelRef) -> str:
    """The path in the models folder: a server that runs there loads the model by it, and adapters name it so."""
    return _folder_name(ref.id, ref.revision)


class ModelFolders:
    """Finds models in `<root>/<owner>/<name>` or `<root>/<name>`; `@revision` follows unless it is `main`."""

    def __init__(self, root: Path, *, experimental: bool = False) -> None:
        """`experimental`: take causal language models too whose architecture is not in the table."""
        self._root = root.absolute()
        self._experimental = experimental
        self._digests = _DigestCache(self._root / ".digests")
        self._known: set[tuple[str, str]] = set()
        self._checked: dict[Path, tuple[Signature, CheckedModel]] = {}

    def find(self, model_id: str, revision: str = "main") -> ModelFolder:
        """Find and check a folder.

        Raises ModelNotFound, and ModelRejected for what `check_checkpoint` refuses and for a hostile chat template.
        """
        path = self._path(model_id, revision)
        signature = _signature(path)
        checked = self._check(path, signature, model_id)
        check_chat_template(path)
        digest = self._digests.digest(path, signature, checked.weights)
        self._known.add((model_id, revision))
        return ModelFolder(
            ref=ModelRef(id=model_id, revision=revision, digest=digest),
            path=path,
            architecture=checked.architecture,
            context_length=checked.config.context_length,
            weights=checked.weights,
        )

    def _check(self, path: Path, signature: Signature, model_id: str) -> CheckedModel:
        """Check the folder, once while its files stay the same."""
        known = self._checked.get(path)
        if known is None or known[0] != signature:
            known = signature, check_checkpoint(path, model_id, experimental=self._experimental)
            self._checked[path] = known
        return known[1]

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
            if not folder.name.startswith(".")  # a download that is under way
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


def _signature(path: Path) -> Signature:
    return [[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in sorted(path.iterdir()) if f.is_file()]


def _digest(path: Path, weights: Weights) -> str:
    """SHA-256 of the names and bytes of all files that define the model: copies of the weights do not count."""
    files = sorted({*weights.files, *(file for pattern in _DESCRIBING for file in path.glob(pattern))})
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
        self._unwritten: dict[Path, tuple[Signature, str]] = {}

    def digest(self, path: Path, files: Signature, weights: Weights) -> str:
        unread: Signature = [["not counted", name] for name in weights.unread]
        signature = [*files, *unread]
        entry = self._folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(entry.read_bytes())
            if known["signature"] == signature:
                return str(known["digest"])
        if path in self._unwritten and self._unwritten[path][0] == signature:
            return self._unwritten[path][1]
        digest = _digest(path, weights)
        try:
            self._folder.mkdir(exist_ok=True)
            draft = entry.with_suffix(f".{uuid4().hex}")
            draft.write_text(json.dumps({"signature": signature, "digest": digest}), encoding="utf-8")
            draft.replace(entry)
        except OSError:
            self._unwritten[path] = (signature, digest)
        return digest
