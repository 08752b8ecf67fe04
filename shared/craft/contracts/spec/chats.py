"""The form in which a job's chats are given to its model: template, arguments of the template, and date."""

import datetime
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag

from craft.contracts.base import Contract

MAX_ARGUMENTS = 16
MAX_ARGUMENT_LENGTH = 200
MAX_TEMPLATE_LENGTH = 65_536
ARGUMENT_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,63}$"
WITHOUT_THINKING: Mapping[str, bool] = {"enable_thinking": False, "thinking": False}
"""The arguments by which templates of hybrid models leave the thought out. Other templates do not read them."""

_MAX_NUMBER = 1e9
_TAKEN = frozenset(
    {
        "messages",
        "conversation",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "strftime_now",
        "raise_exception",
    }
)
"""Names that have a meaning in every rendering of a chat; special tokens come on top."""


def _kind(value: object) -> str | None:
    """The JSON type of an argument's value; None for what is no argument."""
    kinds: Mapping[type, str] = {bool: "bool", int: "int", float: "float", str: "str"}
    return kinds.get(type(value))


def _checked_name(name: str) -> str:
    if name in _TAKEN or name.endswith("_token"):
        raise ValueError(f"`{name}` is set by the rendering itself, so it cannot be an argument")
    return name


ArgumentName = Annotated[str, Field(pattern=ARGUMENT_NAME), AfterValidator(_checked_name)]
_Integer = Annotated[int, Field(ge=-int(_MAX_NUMBER), le=int(_MAX_NUMBER))]
_Number = Annotated[float, Field(ge=-_MAX_NUMBER, le=_MAX_NUMBER)]
_Text = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=MAX_ARGUMENT_LENGTH)]
ArgumentValue = Annotated[
    Annotated[bool, Tag("bool")]
    | Annotated[_Integer, Tag("int")]
    | Annotated[_Number, Tag("float")]
    | Annotated[_Text, Tag("str")],
    Discriminator(_kind, custom_error_type="argument_type", custom_error_message="no value of an argument"),
]
TemplateText = Annotated[str, Field(pattern=r"^[^\x00]*$", min_length=1, max_length=MAX_TEMPLATE_LENGTH)]


def with_defaults(given: Mapping[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
    """The arguments of a job: those given, and the defaults for names that are not given."""
    arguments = {**WITHOUT_THINKING, **given}
    if len(arguments) > MAX_ARGUMENTS:
        raise ValueError(f"may have at most {MAX_ARGUMENTS - len(WITHOUT_THINKING)} names beside the defaults")
    return arguments


TemplateArguments = Annotated[
    dict[ArgumentName, ArgumentValue], Field(max_length=MAX_ARGUMENTS), AfterValidator(with_defaults)
]


class ChatFormat(Contract):
    """The settings of every rendering of one job's chats, in its stages and where its adapter is served.

    `arguments` are those that the template reads. `template` replaces the default template of the model's folder.
    `date` is there if the template writes the current date: every rendering then writes this one.
    """

    arguments: dict[str, bool | int | float | str] = Field(default_factory=dict)
    template: str | None = None
    date: datetime.date | None = None
