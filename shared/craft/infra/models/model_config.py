"""config.json of a model, read with errors that say which entry is missing or wrong."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from craft.errors import ModelRejected

_QUANTISED = ("quantization_config", "compression_config")
_NESTED = "text_config"
_MAX_SHOWN = 60
_MAX_DIMENSION = 10_000_000


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The entries of one config.json. A missing entry, and null, take the default that the caller names."""

    model_id: str
    entries: Mapping[str, object]

    @property
    def architecture(self) -> str:
        """The class that the checkpoint names, or an empty text."""
        names = self.entries.get("architectures")
        return str(names[0])[:_MAX_SHOWN] if isinstance(names, list) and names else ""

    @property
    def is_nested(self) -> bool:
        """True if the language model is a part of the checkpoint, beside others for images or sound."""
        return isinstance(self.entries.get(_NESTED), dict)

    @property
    def asks_for_code(self) -> bool:
        """True if the checkpoint names Python files of its own that are to be run."""
        return bool(self.entries.get("auto_map"))

    @property
    def quantisation(self) -> str | None:
        """The method with which the weights are quantised; None for plain weights."""
        for entry in (self.entries, self.entries.get(_NESTED)):
            for name in _QUANTISED:
                if isinstance(entry, dict) and (found := entry.get(name)):
                    method = found.get("quant_method") if isinstance(found, dict) else None
                    return str(method or name)[:_MAX_SHOWN]
        return None

    @property
    def context_length(self) -> int:
        """The number of tokens that the model takes. Raises ModelRejected if config.json does not say it.

        Where a model turns to other rotary frequencies behind its first length (longrope), that first length counts:
        one text's numbers would otherwise depend on the length of others.
        """
        return context_length(self.entries) or self.number("max_position_embeddings")

    def number(self, name: str, default: int | None = None) -> int:
        """A size. Raises ModelRejected if it is missing and has no default, or if it is no positive integer."""
        value = self.entries.get(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MAX_DIMENSION:
            said = "is missing" if value is None else f"is {str(value)[:_MAX_SHOWN]!r}"
            raise ModelRejected(
                f"{self.model_id}: {name} {said} in config.json.",
                hint="Take config.json from the original checkpoint.",
                param="base_model",
            )
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A truth value."""
        value = self.entries.get(name)
        return default if value is None else value is True

    def numbers(self, name: str) -> list[int]:
        """A list of integers; empty where there is none."""
        value = self.entries.get(name)
        return [each for each in value if isinstance(each, int)] if isinstance(value, list) else []


def context_length(entries: Mapping[str, object]) -> int | None:
    """The tokens that a model with these entries takes, as `ModelConfig.context_length`; None if they do not say it."""
    length = entries.get("max_position_embeddings")
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        return None
    first = _length_before_long_rope(entries)
    return length if first is None else min(length, first)


def _length_before_long_rope(entries: Mapping[str, object]) -> int | None:
    for name in ("rope_parameters", "rope_scaling"):
        rope = entries.get(name)
        if not isinstance(rope, dict) or (rope.get("rope_type") or rope.get("type")) not in ("longrope", "su"):
            continue
        first = rope.get("original_max_position_embeddings", entries.get("original_max_position_embeddings"))
        return first if isinstance(first, int) else None
    return None


def read_config(path: Path, model_id: str) -> ModelConfig:
    """Read config.json. Raises ModelRejected if it is not a JSON object."""
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelRejected(
            f"{model_id} has no readable config.json.",
            hint="Fetch the whole checkpoint: `craft models fetch` does.",
            param="base_model",
        ) from error
    if not isinstance(entries, dict):
        raise ModelRejected(f"{model_id}: config.json is not an object.", param="base_model")
    return ModelConfig(model_id, cast("dict[str, object]", entries))
