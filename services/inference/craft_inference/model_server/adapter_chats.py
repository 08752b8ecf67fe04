"""Gives each chat completion the form of chats with which its adapter was trained and evaluated.

vLLM renders chats by the base model's files, with one set of defaults for the whole server. Adapters of one base may
have other arguments, so each request carries its adapter's own. A template of a job, or a date, goes further: the chat
is rendered here, in a process with limits, and vLLM gets the text as a template that writes just this text.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from craft.contracts.base import NAME
from craft.contracts.services.model_server import AdapterChat
from craft.contracts.stages.rows import ADAPTER_CHAT
from craft.infra.models.chats.templates import rendered

_RENDERED = "rendered_chat"
_TEXT_ALONE = "{{- " + _RENDERED + " -}}"


class AdapterChats:
    """The forms of chats of the adapters in the folder that vLLM reads."""

    def __init__(self, adapters: Path) -> None:
        self._adapters = adapters

    async def completed(self, body: bytes) -> bytes:
        """The request with the members that its adapter needs; one that names no such adapter stays as it is.

        Raises ModelRejected for a chat that the adapter's template refuses, Unavailable on an overloaded machine.
        """
        request = _object(body)
        form = self._form(request.get("model")) if request else None
        if form is None:
            return body
        request["chat_template_kwargs"] = dict(form.arguments)
        named = request.get("stop_token_ids") or []
        request["stop_token_ids"] = sorted({*named, *form.end_tokens})
        if form.template is not None:
            text = await asyncio.to_thread(_text_of, form, request.get("messages"))
            if text is not None:
                request["chat_template"] = _TEXT_ALONE
                request["chat_template_kwargs"] = {_RENDERED: text}
        return json.dumps(request).encode()

    def _form(self, model: object) -> AdapterChat | None:
        if not isinstance(model, str) or not re.fullmatch(NAME, model):
            return None
        path = self._adapters / model / ADAPTER_CHAT
        return AdapterChat.model_validate_json(path.read_bytes()) if path.is_file() else None


def _text_of(form: AdapterChat, messages: object) -> str | None:
    """The chat by the adapter's template; None for messages that vLLM will refuse."""
    chat = _chat_of(messages)
    if chat is None or form.template is None:
        return None
    [text] = rendered(form.template, [chat], variables={**form.tokens, **form.arguments})
    return text


def _chat_of(messages: object) -> Sequence[Mapping[str, str]] | None:
    if not isinstance(messages, list) or not messages:
        return None
    turns = [(each.get("role"), _content(each.get("content"))) for each in messages if isinstance(each, dict)]
    known = [
        {"role": _role(role), "content": text} for role, text in turns if isinstance(role, str) and text is not None
    ]
    return known if len(known) == len(messages) else None


def _role(role: str) -> str:
    # Templates know the older name.
    return "system" if role == "developer" else role


def _content(content: object) -> str | None:
    """The text of a message; parts are lines, as vLLM joins them."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return None
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if len(texts) == len(content) else None


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body; empty for anything else, which vLLM refuses."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}
