"""Checks and renders chat templates. They are untrusted programs, so only a child process with limits runs them."""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from craft.contracts.spec.chats import WITHOUT_THINKING, ChatFormat
from craft.errors import Internal, ModelRejected, Unavailable
from craft.infra.models.chats.child import DEFAULT, with_usual_tokens
from craft.infra.models.chats.dates import frozen
from craft.infra.models.chats.sandbox import Value
from craft.infra.models.chats.traits import OpenThought, TemplateTraits

_SECONDS = 2
_MEMORY_BYTES = 64 * 2**20
_WAIT_SECONDS = 60.0
_LARGEST_FILE = 16 * 2**20
_MAX_TEMPLATE_LENGTH = 2**20
_CACHED_RESULTS = 64
_MAX_OUTPUT_LENGTH = 2000
_TOO_SLOW = f"takes longer than {_SECONDS} s"
_log = logging.getLogger("craft.models")


def check_chat_template(folder: Path) -> None:
    """Render the folder's templates with conversations like those of jobs. A folder without templates passes.

    The process caches the result. Raises ModelRejected for a template that fails, runs longer than 2 s, needs more than
    64 MiB or writes more than 1 Mi characters, and Unavailable on an overloaded machine.
    """
    default_template(folder, ChatFormat(arguments=dict(WITHOUT_THINKING)))


class TriedTemplate(NamedTuple):
    """A template that was tried: its text with the date of its form, if any, its variables, and its traits."""

    text: str
    variables: dict[str, Value]
    traits: TemplateTraits


def default_template(folder: Path, form: ChatFormat) -> TriedTemplate | None:
    """The template by which chats of this form are rendered, tried; None if neither folder nor form has one.

    Raises as `check_chat_template`.
    """
    request = _request(folder, form)
    if request is None:
        return None
    try:
        traits = _checked(request)
    except _FaultyTemplate as error:
        raise _rejected(error.fault, own=form.template is not None) from None
    if isinstance(traits, str):
        raise _rejected(traits, own=form.template is not None)
    known = json.loads(request)
    return TriedTemplate(known["templates"][DEFAULT], known["variables"], traits)


def render_chats(folder: Path, chats: Sequence[Sequence[Mapping[str, str]]], form: ChatFormat) -> list[str]:
    """Each chat as a job's form has it, up to the start of a reply.

    Raises as `check_chat_template`, and ModelRejected for a folder without a template.
    """
    request = _request(folder, form)
    if request is None:
        raise no_template(folder.name)
    known = json.loads(request)
    return rendered(known["templates"][DEFAULT], chats, variables=with_usual_tokens(known["variables"]))


def rendered(
    template: str, chats: Sequence[Sequence[Mapping[str, str]]], *, variables: Mapping[str, Value]
) -> list[str]:
    """Each chat by this template, up to the start of a reply, in a limited process. Raises as `check_chat_template`."""
    try:
        result = _run_child({"templates": {DEFAULT: template}, "variables": variables, "chats": chats})
    except _FaultyTemplate as error:
        raise _rejected(error.fault) from None
    if result["fault"] is not None:
        raise _rejected(result["fault"])
    texts: list[str] = result["texts"]
    return texts


def no_template(model: str) -> ModelRejected:
    """The error for a model without a chat template."""
    return ModelRejected(
        f"{model} has no chat template, so it is not a chat model.",
        hint="Choose an instruct checkpoint, or give the template that the model was trained with: in the job's "
        "base_model.chat_template, or as chat_template.jinja in the model's folder.",
        param="base_model",
    )


def _request(folder: Path, form: ChatFormat) -> str | None:
    """The request to the child, as JSON; None without a template."""
    settings = _read_json(folder / "tokenizer_config.json")
    templates = {DEFAULT: form.template} if form.template is not None else _templates(folder, settings)
    if not templates:
        return None
    if DEFAULT not in templates:
        raise _rejected(f"is called {', '.join(sorted(templates))[:100]}; one must be called default")
    if sum(map(len, templates.values())) > _MAX_TEMPLATE_LENGTH:
        raise _rejected(f"has more than {_MAX_TEMPLATE_LENGTH:,} characters")
    if form.date is not None:
        templates = {**templates, DEFAULT: frozen(templates[DEFAULT], form.date)}
    variables = _tokens(_read_json(folder / "special_tokens_map.json")) | _tokens(settings) | form.arguments
    return json.dumps({"templates": templates, "variables": variables}, sort_keys=True)


def _templates(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Templates by name, found as transformers finds them: files take precedence over tokenizer_config.json."""
    files = {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    if (folder / "chat_template.jinja").is_file():
        files["default"] = folder / "chat_template.jinja"
    if files:
        return {name: _read_text(path) for name, path in files.items()}
    given = settings.get("chat_template") or {}
    if isinstance(given, list) and all(isinstance(item, dict) for item in given):
        given = {item.get("name"): item.get("template") for item in given}
    named = {"default": given} if isinstance(given, str) else given
    if not isinstance(named, dict) or not all(isinstance(text, str) for pair in named.items() for text in pair):
        raise _rejected("is not text")
    return named


def _tokens(settings: dict[str, Any]) -> dict[str, str]:
    """The special tokens that templates can use by name."""
    extra = settings.get("extra_special_tokens")
    named = settings | extra if isinstance(extra, dict) else settings
    texts = {name: token.get("content") if isinstance(token, dict) else token for name, token in named.items()}
    return {name: text for name, text in texts.items() if name.endswith("_token") and isinstance(text, str)}


class _FaultyTemplate(Exception):
    """A fault that may have been a busy machine's, so that it must not be remembered."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


@lru_cache(_CACHED_RESULTS)
def _checked(request: str) -> TemplateTraits | str:
    """The traits of the default template, or the fault of one. Errors are not cached: a busy machine may cause them."""
    result = _run_child(json.loads(request))
    if result["fault"] is not None:
        return str(result["fault"])
    known = result["traits"]
    thought = known["thought"] and OpenThought(known["thought"][0], known["thought"][1] and tuple(known["thought"][1]))
    return TemplateTraits(**{**known, "reads": tuple(known["reads"]), "thought": thought})


def _run_child(request: dict[str, Any]) -> dict[str, Any]:
    """The child's result: its `fault`, which may be None, and the `texts` of the chats or the `traits`."""
    limits = {"seconds": _SECONDS, "memory_bytes": _MEMORY_BYTES}
    try:
        child = subprocess.run(
            [sys.executable, "-m", "craft.infra.models.chats.child"],
            input=json.dumps(request | limits).encode(),
            capture_output=True,
            # The child gets no passwords and tokens.
            env={name: value for name, value in os.environ.items() if not name.startswith("CRAFT_")},
            timeout=_WAIT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable("The machine is too busy to check the model's chat template.", hint="Try again.") from None
    if child.returncode == -signal.SIGXCPU:
        return {"fault": _TOO_SLOW}
    if child.returncode == -signal.SIGALRM:
        raise _FaultyTemplate(_TOO_SLOW)
    if child.returncode < 0:
        raise _FaultyTemplate(f"ended its process by signal {-child.returncode}")
    if child.returncode > 0:
        _log.warning(
            "template_check_failed", extra={"output": child.stderr[-_MAX_OUTPUT_LENGTH:].decode(errors="replace")}
        )
        raise Internal("The process that checks chat templates failed.", hint="Its output is in the log.")
    result: dict[str, Any] = json.loads(child.stdout)
    return result


def _read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where the file does not exist."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise ModelRejected(f"The model's {path.name} is not readable JSON.", param="base_model") from error
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


def _rejected(fault: str, *, own: bool = False) -> ModelRejected:
    """The error for a template; `own`: the job gave it."""
    return ModelRejected(
        f"The {'job' if own else 'model'}'s chat template {fault}.",
        hint="Correct base_model.chat_template, or leave it out for the model's own."
        if own
        else "Correct chat_template.jinja (or `chat_template` in tokenizer_config.json), give another template in the "
        "job's base_model.chat_template, or choose another checkpoint.",
        param="base_model.chat_template" if own else "base_model",
    )
