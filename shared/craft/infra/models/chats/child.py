"""Renders chat templates in a separate process with hard limits: `python -m craft.infra.models.chats.child`.

The request is JSON on standard input, the result is JSON on standard output.
"""

import json
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any

from craft.infra.models.chats.sandbox import ChatTemplate, Conversation
from craft.infra.models.chats.traits import fault_of, reason_of, traits_of

DEFAULT = "default"
_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
"""For tokenizers whose files do not name these tokens, because their class does."""


def with_usual_tokens(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a template, with the usual texts for special tokens that are not named."""
    return {**_TOKENS, **variables}


def main() -> None:
    """Read one request, set this process's limits and answer the request."""
    request = json.load(sys.stdin)
    seconds, memory_bytes = request["seconds"], request["memory_bytes"]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    # Without a handler the signal ends the process, even while C code holds the interpreter's lock.
    signal.setitimer(signal.ITIMER_REAL, seconds)
    if sys.platform == "linux":
        limit = _address_space_bytes() + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        result = _answer(request)
    except MemoryError:
        result = {"fault": f"needs more than {memory_bytes // 2**20} MiB of memory"}
    json.dump(result, sys.stdout)


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        if "chats" in request:
            return {"fault": None, "texts": [_rendered(chat, request) for chat in request["chats"]]}
        return _tried(request)
    except MemoryError:
        raise
    except Exception as error:  # a template may raise anything
        return {"fault": reason_of(error)}


def _tried(request: Mapping[str, Any]) -> dict[str, Any]:
    templates, variables = request["templates"], with_usual_tokens(request["variables"])
    fault = fault_of(templates, DEFAULT, variables)
    if fault is not None:
        return {"fault": fault}
    return {"fault": None, "traits": traits_of(ChatTemplate(templates[DEFAULT], variables))._asdict()}


def _rendered(chat: list[Mapping[str, str]], request: Mapping[str, Any]) -> str:
    template = ChatTemplate(request["templates"][DEFAULT], request["variables"])
    return template.render(Conversation(chat, add_generation_prompt=True))


def _address_space_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - pathlib is not worth its import here
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
