"""Renders chat templates in a separate process with hard limits: `python -m craft.infra.models.chat_template_child`.

The request is JSON on standard input, the result is JSON on standard output. The sandbox is the one of transformers,
set up without importing transformers, so that this process starts in a tenth of a second.
"""

import json
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_MAX_CHARACTERS = 2**20
_MAX_REASON_LENGTH = 200
_DEFAULT = "default"
_USER = {"role": "user", "content": "Question: What is the capital of Peru? 水, naïve, 🧪 <b> {{ x }}\nAnswer:"}
_ASSISTANT = {"role": "assistant", "content": "Lima."}
_SYSTEM = {"role": "system", "content": "Answer in one word."}
_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
"""For tokenizers whose files do not name these tokens, because their class does."""


class Conversation(NamedTuple):
    """One conversation to render. A template may refuse those that no job needs."""

    messages: tuple[Mapping[str, str], ...]
    add_generation_prompt: bool
    needed: bool


CONVERSATIONS = (
    Conversation((_USER,), add_generation_prompt=True, needed=True),
    Conversation((_USER, _ASSISTANT), add_generation_prompt=False, needed=True),
    Conversation((_USER, _ASSISTANT) * 5 + (_USER,), add_generation_prompt=True, needed=True),
    # Some templates refuse system messages.
    Conversation((_SYSTEM, _USER, _ASSISTANT, _USER), add_generation_prompt=True, needed=False),
    Conversation((_SYSTEM, _USER, _ASSISTANT), add_generation_prompt=False, needed=False),
)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's text; the text itself does not change."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_unchanged"), [], [], body).set_lineno(line)

    def _unchanged(self, caller: Macro) -> str:
        return str(caller())


class _Dict:
    """`dict` without the attributes of its class."""

    def __call__(self, *pairs: Any, **named: Any) -> dict[Any, Any]:
        return dict(*pairs, **named)

    def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
        return dict.fromkeys(*arguments)


class _Namespace(Namespace):
    """`namespace` without names that start with an underscore."""

    def __init__(*positional: Any, **named: Any) -> None:
        # The signature has no `self`, because a template may use that name.
        self, *pairs = positional
        values = dict(*pairs, **named)
        for name in values:
            _refuse_private(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def sandbox() -> ImmutableSandboxedEnvironment:
    """The environment of transformers' `apply_chat_template`."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": _now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment


def template_variables(tokens: Mapping[str, str]) -> dict[str, str]:
    """The special tokens that a template can use by name."""
    return {**_TOKENS, **tokens}


def render(template: str, conversation: Conversation, tokens: Mapping[str, str]) -> str:
    """The conversation as text. Raises errors of jinja2 and of the template, and ValueError above 1 Mi characters."""
    variables = {**template_variables(tokens), "add_generation_prompt": conversation.add_generation_prompt}
    messages = [dict(message) for message in conversation.messages]
    written: list[str] = []
    left = _MAX_CHARACTERS
    compiled = sandbox().from_string(template)
    for piece in compiled.generate(messages=messages, tools=None, documents=None, **variables):
        written.append(piece)
        left -= len(piece)
        if left < 0:
            raise ValueError(f"it writes more than {_MAX_CHARACTERS:,} characters for a short conversation")
    return "".join(written)


def fault_of(templates: Mapping[str, str], tokens: Mapping[str, str]) -> str | None:
    """The reason why these templates cannot be used, or None. Raises MemoryError.

    Only the template called "default" is used; others may fail, but must not break out of the sandbox.
    """
    for name, template in templates.items():
        for conversation in CONVERSATIONS:
            try:
                render(template, conversation, tokens)
            except MemoryError:
                raise
            except Exception as error:  # a template may raise anything
                if isinstance(error, SecurityError) or (conversation.needed and name == _DEFAULT):
                    return f"fails with {type(error).__name__}: {str(error)[:_MAX_REASON_LENGTH]}"
    return None


def begins_replies(template: str, tokens: Mapping[str, str]) -> bool:
    """False if a prompt ends before the header that the template writes before a reply.

    The model would then be asked to go on with the user's turn. Templates whose replies follow the user's turn at once
    ("[/INST]") need no header.
    """
    user, replied = (CONVERSATIONS[at].messages for at in (0, 1))
    prompt, without = (render(template, Conversation(user, add, needed=True), tokens) for add in (True, False))
    if prompt != without:
        return True
    whole = render(template, Conversation(replied, add_generation_prompt=False, needed=True), tokens)
    reply = _ASSISTANT["content"]
    if not whole.startswith(prompt.rstrip()) or reply not in whole[len(prompt.rstrip()) :]:
        return True
    return not whole[len(prompt.rstrip()) :].partition(reply)[0].strip()


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
    chats = request.get("chats")
    if chats is None:
        fault = fault_of(request["templates"], request["tokens"])
        default = request["templates"][_DEFAULT]
        return {"fault": fault, "begins_replies": fault is not None or begins_replies(default, request["tokens"])}
    try:
        return {"fault": None, "texts": [_rendered(chat, request) for chat in chats]}
    except MemoryError:
        raise
    except Exception as error:  # a template may raise anything
        return {"fault": f"fails with {type(error).__name__}: {str(error)[:_MAX_REASON_LENGTH]}"}


def _rendered(chat: Sequence[Mapping[str, str]], request: Mapping[str, Any]) -> str:
    conversation = Conversation(tuple(chat), add_generation_prompt=True, needed=True)
    return render(request["templates"][_DEFAULT], conversation, request["tokens"])


def _address_space_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - pathlib is not worth its import here
        return int(file.read().split()[0]) * resource.getpagesize()


def _to_json(value: Any, *options: Any, **named: Any) -> str:
    # jinja2's own filter escapes HTML.
    names = ("ensure_ascii", "indent", "separators", "sort_keys")
    return json.dumps(value, **{"ensure_ascii": False, **dict(zip(names, options, strict=False)), **named})


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)  # noqa: DTZ005 - templates want the local date


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace keeps no name such as {name[:50]!r}")


if __name__ == "__main__":
    main()
