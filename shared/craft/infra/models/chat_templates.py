"""Chat templates are programs of strangers: each is tried in a limited child before anything here renders it."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from craft.errors import Internal, ModelRejected, Unavailable

_SECONDS = 2
_MEMORY_BYTES = 64 * 2**20
_PATIENCE_SECONDS = 60.0
_LARGEST_FILE = 16 * 2**20
_LONGEST_TEMPLATE = 2**20
_REMEMBERED = 64
_LONGEST_OUTPUT = 2000
_TOO_SLOW = f"takes longer than {_SECONDS} s"
_log = logging.getLogger("craft.models")


def check_chat_template(folder: Path) -> None:
    """Render the folder's templates for conversations such as jobs have. A folder without any passes.

    The outcome is remembered for as long as the process lives. Raises ModelRejected for a template that fails, runs
    longer than 2 s, needs more than 64 MiB, or writes more than 1 Mi characters; Unavailable on a choked machine.
    """
    settings = _read_json(folder / "tokenizer_config.json")
    templates = _templates(folder, settings)
    if not templates:
        return
    fault = _fault(_order(folder, settings, templates))
    if fault is not None:
        raise _rejected(fault)


def render_chats(folder: Path, chats: Sequence[Sequence[Mapping[str, str]]]) -> list[str]:
    """Each chat as the folder's template writes it, up to where a reply begins. Raises as `check_chat_template` does,
    and ModelRejected for a folder without a template.
    """
    settings = _read_json(folder / "tokenizer_config.json")
    templates = _templates(folder, settings)
    if not templates:
        raise _rejected("is missing")
    order = json.loads(_order(folder, settings, templates))
    outcome = _tried({**order, "chats": chats})
    if outcome["fault"] is not None:
        raise _rejected(outcome["fault"])
    texts: list[str] = outcome["texts"]
    return texts


def _order(folder: Path, settings: dict[str, Any], templates: dict[str, str]) -> str:
    """What the child is asked, as one text."""
    if "default" not in templates:
        raise _rejected(f"is called {', '.join(sorted(templates))[:100]}; one must be called default")
    if sum(map(len, templates.values())) > _LONGEST_TEMPLATE:
        raise _rejected(f"has more than {_LONGEST_TEMPLATE:,} characters")
    tokens = _tokens(_read_json(folder / "special_tokens_map.json")) | _tokens(settings)
    return json.dumps({"templates": templates, "tokens": tokens}, sort_keys=True)


def _templates(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """By name, found where transformers finds them: files come before tokenizer_config.json."""
    files = {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    if (folder / "chat_template.jinja").is_file():
        files["default"] = folder / "chat_template.jinja"
    if files:
        return {name: _read_text(path) for name, path in files.items()}
    given = settings.get("chat_template") or {}
    if isinstance(given, list) and all(isinstance(each, dict) for each in given):
        given = {each.get("name"): each.get("template") for each in given}
    named = {"default": given} if isinstance(given, str) else given
    if not isinstance(named, dict) or not all(isinstance(text, str) for pair in named.items() for text in pair):
        raise _rejected("is no text")
    return named


def _tokens(settings: dict[str, Any]) -> dict[str, str]:
    """The special tokens that templates see by name."""
    extra = settings.get("extra_special_tokens")
    named = settings | extra if isinstance(extra, dict) else settings
    texts = {name: each.get("content") if isinstance(each, dict) else each for name, each in named.items()}
    return {name: text for name, text in texts.items() if name.endswith("_token") and isinstance(text, str)}


@lru_cache(_REMEMBERED)
def _fault(order: str) -> str | None:
    """What is wrong with the templates. What is raised is not remembered: the machine may have been busy."""
    fault: str | None = _tried(json.loads(order))["fault"]
    return fault


def _tried(order: dict[str, Any]) -> dict[str, Any]:
    """The child's outcome: its `fault`, None where there is none, and the `texts` of chats that were asked for."""
    limits = {"seconds": _SECONDS, "memory_bytes": _MEMORY_BYTES}
    try:
        child = subprocess.run(
            [sys.executable, "-m", "craft.infra.models.chat_template_child"],
            input=json.dumps(order | limits).encode(),
            capture_output=True,
            # Passwords and tokens are none of its business.
            env={name: value for name, value in os.environ.items() if not name.startswith("CRAFT_")},
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable("The machine is too busy to check the model's chat template.", hint="Try again.") from None
    if child.returncode == -signal.SIGXCPU:
        return {"fault": _TOO_SLOW}
    if child.returncode == -signal.SIGALRM:
        raise _rejected(_TOO_SLOW)
    if child.returncode < 0:
        raise _rejected(f"ended its process by signal {-child.returncode}")
    if child.returncode > 0:
        _log.warning(
            "template_check_failed", extra={"output": child.stderr[-_LONGEST_OUTPUT:].decode(errors="replace")}
        )
        raise Internal("The process that checks chat templates failed.", hint="Its output is in the log.")
    outcome: dict[str, Any] = json.loads(child.stdout)
    return outcome


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise ModelRejected(f"The model's {path.name} is no readable JSON.", param="base_model") from error
    if not isinstance(content, dict):
        raise ModelRejected(f"The model's {path.name} is not an object.", param="base_model")
    return content


def _read_text(path: Path) -> str:
    if path.stat().st_size > _LARGEST_FILE:
        raise ModelRejected(f"The model's {path.name} has more than {_LARGEST_FILE:,} bytes.", param="base_model")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelRejected(f"The model's {path.name} cannot be read as UTF-8.", param="base_model") from error


def _rejected(fault: str) -> ModelRejected:
    return ModelRejected(
        f"The model's chat template {fault}.",
        hint="Mend chat_template.jinja (or `chat_template` in tokenizer_config.json), or choose another checkpoint.",
        param="base_model",
    )
