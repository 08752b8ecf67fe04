"""Chooses the context with which vLLM is started: enough for stages and chats, and never a model's own 131,072 tokens.

The longer the context, the more memory vLLM wants for a single sequence before it starts at all.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

DEFAULT_TOKENS = 4096
"""The least context of a server that may choose, for users' chats and for stages that need no more."""
_STEP = 1024
_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""The names under which configurations have a model's context; of several the least counts, as in vLLM."""

Context = int | Literal["auto"] | None
"""The context with which a server is started: tokens, as many as fit its memory, or what another's server has."""


def chosen_context(
    setting: int | Literal["auto"] | None, *, own: int | None, needed: int | None
) -> int | Literal["auto"]:
    """The context for a server: the operator's setting, or what is needed in steps of 1,024 tokens, within the model's.

    `own` is the model's context, None if it is not known; `needed` is a caller's need, None if it has none.
    """
    if setting == "auto":
        return "auto"
    wanted = setting or max(DEFAULT_TOKENS, -(-(needed or 0) // _STEP) * _STEP)
    return wanted if own is None else min(wanted, own)


def own_context(folder: Path) -> int | None:
    """The context that a model's config.json names; None if it names none or cannot be read."""
    with suppress(OSError, ValueError):
        config = json.loads((folder / "config.json").read_bytes())
        if isinstance(config, dict):
            text = config.get("text_config")
            return _least(text if isinstance(text, dict) else {}) or _least(config)
    return None


def _least(config: Mapping[str, Any]) -> int | None:
    return min((value for key in _KEYS if isinstance(value := config.get(key), int) and value > 0), default=None)
