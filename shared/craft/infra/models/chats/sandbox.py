"""Renders a chat template in the sandbox of transformers, set up without importing transformers."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import jinja2.ext
from jinja2 import Template, meta, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_CHARACTERS = 2**20
_GIVEN = frozenset({"messages", "tools", "documents", "add_generation_prompt"})
Value = bool | int | float | str


class Conversation(NamedTuple):
    """One conversation to render. A template may refuse those that no job needs."""

    messages: Sequence[Mapping[str, str]]
    add_generation_prompt: bool
    needed: bool = True


class ChatTemplate(NamedTuple):
    """A template and the variables that it can use by name: the special tokens and the job's arguments.

    `moment` is what `strftime_now` tells; None is the present.
    """

    text: str
    variables: Mapping[str, Value]
    moment: datetime | None = None

    def render(self, conversation: Conversation) -> str:
        """The conversation as text.

        Raises errors of jinja2 and of the template, and ValueError above 1 Mi characters.
        """
        written: list[str] = []
        left = MAX_CHARACTERS
        for piece in self.compiled().generate(
            messages=[dict(message) for message in conversation.messages],
            tools=None,
            documents=None,
            add_generation_prompt=conversation.add_generation_prompt,
            **self.variables,
        ):
            written.append(piece)
            left -= len(piece)
            if left < 0:
                raise ValueError(f"it writes more than {MAX_CHARACTERS:,} characters for a short conversation")
        return "".join(written)

    def compiled(self) -> Template:
        """The template in its sandbox. Raises errors of jinja2."""
        return _sandbox(self.moment).from_string(self.text)

    def reads(self) -> list[str]:
        """The variables that the template looks up, but for those of every rendering, sorted."""
        found = meta.find_undeclared_variables(_sandbox(None).parse(self.text))
        return sorted(name for name in found - _GIVEN if not name.endswith("_token"))


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


def _sandbox(moment: datetime | None) -> ImmutableSandboxedEnvironment:
    """The environment of transformers' `apply_chat_template`."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": partial(_now, moment),
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment


def _to_json(value: Any, *options: Any, **named: Any) -> str:
    # jinja2's own filter escapes HTML.
    names = ("ensure_ascii", "indent", "separators", "sort_keys")
    return json.dumps(value, **{"ensure_ascii": False, **dict(zip(names, options, strict=False)), **named})


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(moment: datetime | None, format: str) -> str:
    return (moment or datetime.now()).strftime(format)  # noqa: DTZ005 - templates want the local date


def _refuse_private(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace keeps no name such as {name[:50]!r}")
