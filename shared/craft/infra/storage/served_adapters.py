"""The folder from which vLLM's filesystem resolver loads an adapter by its name, on its first use.

Every replica reads the same folder, so a restart loses nothing, and no runtime call has to load adapters.
"""

import json
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from craft.contracts.base import NAME
from craft.contracts.stages.rows import ADAPTER_CHAT, ADAPTER_CONFIG, ADAPTER_WEIGHTS
from craft.errors import Internal, ModelRejected
from craft.infra.storage.artifacts import flush
from craft.infra.storage.verification import FileHashes

_log = logging.getLogger("craft.adapters")
STAGE_ADAPTER = "stage-"
"""The prefix of the names of adapters that a stage publishes for itself and then withdraws."""


class ServedAdapters:
    """Adapters by name. A name always stands for the same bytes: callers derive it from an id or a digest."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._hashes = FileHashes()

    def publish(self, name: str, adapter: Path, *, base_model: str) -> None:
        """Copy a PEFT folder, whole or not at all. `base_model` must be the name of the base model in the server.

        A copy that differs from the folder is replaced: it was damaged. A server that has loaded it keeps what it
        loaded. Raises ModelRejected if the folder is not an adapter, OSError if the disk is full.
        """
        target = self._folder(name)
        config = _config(adapter)
        # vLLM's resolver serves an adapter only where this is exactly the name of the running model.
        texts = {ADAPTER_CONFIG: json.dumps({**config, "base_model_name_or_path": base_model})}
        if (adapter / ADAPTER_CHAT).is_file():
            texts[ADAPTER_CHAT] = (adapter / ADAPTER_CHAT).read_text(encoding="utf-8")
        if target.exists():
            if self._same(target, adapter / ADAPTER_WEIGHTS, texts):
                return
            _log.error("served_adapter_damaged", extra={"adapter": name})
            self.withdraw(name)
        draft = self._root / f".{name[:80]}.{uuid4().hex}"
        draft.mkdir(parents=True)
        try:
            shutil.copyfile(adapter / ADAPTER_WEIGHTS, draft / ADAPTER_WEIGHTS)
            for file, text in texts.items():
                (draft / file).write_text(text, encoding="utf-8")
            for path in (draft / ADAPTER_WEIGHTS, *(draft / file for file in texts), draft):
                flush(path)
            try:
                draft.rename(target)
            except OSError:
                if not target.exists():
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _same(self, target: Path, weights: Path, texts: Mapping[str, str]) -> bool:
        try:
            if any((target / file).read_text(encoding="utf-8") != text for file, text in texts.items()):
                return False
            return self._hashes.sha256(target / ADAPTER_WEIGHTS) == self._hashes.sha256(weights)
        except (FileNotFoundError, UnicodeDecodeError):
            return False

    def withdraw(self, name: str) -> None:
        """Remove an adapter, if there is one. A server that has loaded it keeps it."""
        folder = self._folder(name)
        removed = self._root / f".{name[:80]}.{uuid4().hex}"
        try:
            folder.rename(removed)
        except FileNotFoundError:
            return
        shutil.rmtree(removed, ignore_errors=True)

    def remove_leftovers(self, *, older_than_seconds: float) -> None:
        """Remove leftovers of killed processes: unfinished copies and adapters that stages published for themselves."""
        oldest = time.time() - older_than_seconds
        with os.scandir(self._root) as entries:
            left = [entry.path for entry in entries if entry.name.startswith((".", STAGE_ADAPTER))]
        for path in left:
            with suppress(FileNotFoundError):
                if Path(path).stat().st_mtime < oldest:
                    shutil.rmtree(path, ignore_errors=True)

    def names(self) -> list[str]:
        """The names of all adapters, sorted."""
        with os.scandir(self._root) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and re.fullmatch(NAME, entry.name))

    def ensure_root(self) -> Path:
        """The folder, created if missing: vLLM does not start without it."""
        self._root.mkdir(parents=True, exist_ok=True)
        return self._root

    def _folder(self, name: str) -> Path:
        if not re.fullmatch(NAME, name):
            raise Internal(f"{name!r} cannot name a served adapter.")
        return self._root / name


def _config(adapter: Path) -> dict[str, object]:
    try:
        config = json.loads((adapter / ADAPTER_CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise _no_adapter(adapter) from error
    if not isinstance(config, dict) or not (adapter / ADAPTER_WEIGHTS).is_file():
        raise _no_adapter(adapter)
    return config


def _no_adapter(adapter: Path) -> ModelRejected:
    return ModelRejected(f"{adapter.name} is not a LoRA adapter in PEFT layout.", param="adapter")
