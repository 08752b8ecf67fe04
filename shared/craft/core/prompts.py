"""The prompts of both tasks as chat messages. A job can replace each template."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import NamedTuple

from craft.core.questions import ChoiceQuestion, Question, Task
from craft.errors import RequestInvalid

MAX_TEMPLATE_BYTES = 20_000
"""Bytes of a prompt's template."""
MAX_PART_BYTES = 2_000
"""Bytes of the other templates, which are parts of prompts and targets."""
MAX_REPEATS = 4
"""Uses of one placeholder in one template: each repeats the question, which may be long."""


MAX_BYTES_PER_TOKEN = 16
"""No text has more bytes to a token, on average: a longer prompt cannot fit, and needs no counting of tokens."""


class ModelMessage(NamedTuple):
    """One message of a chat; `role` is "user" or "assistant"."""

    role: str
    content: str


class PromptMode(StrEnum):
    """BASIC asks the question; REFUSE also allows the refusal."""

    BASIC = "basic"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class PromptTemplates:
    """The templates of method.md, with `{placeholder}`s; other braces are text.

    Prompts have {question}, {topic}, {options}, {letters} ("A, B, C or D"), {letters_comma} ("A, B, C, or D"),
    {refusal}, and {refusal_words}, which is the refusal without its full stop. The line of one option has {letter} and
    {option}; targets have {answer} and {letter}.
    """

    open_probe: str = "Answer the following question as simple as possible.\nQuestion: {question}\nAnswer:"
    open_basic: str = "{question}"
    open_refuse: str = (
        "Answer the following question, and if you don't know the answer, only reply with '{refusal_words}': {question}"
    )
    open_target: str = "{answer}"
    choice_basic: str = (
        "There is a single choice question about {topic}. Answer the question by replying {letters}.\n"
        "Question: {question}\n{options}\nAnswer: "
    )
    choice_refuse: str = (
        "There is a single choice question about {topic}. If you know the answer, please directly respond with the "
        'correct answer {letters_comma}. If you do not know the answer, please respond with "{refusal}".\n'
        "Question: {question}\n{options}\nAnswer: "
    )
    choice_option: str = "{letter}. {option}"
    choice_target: str = "{letter}"
    or_word: str = "or"
    default_topic: str = "general knowledge"
    refusal: str = "I don't know."


_OPEN_PROMPT = frozenset({"question", "topic", "refusal", "refusal_words"})
_CHOICE_PROMPT = _OPEN_PROMPT | {"options", "letters", "letters_comma"}
# For each template: (required placeholders, allowed placeholders).
_PLACEHOLDERS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "open_probe": (frozenset({"question"}), _OPEN_PROMPT),
    "open_basic": (frozenset({"question"}), _OPEN_PROMPT),
    "open_refuse": (frozenset({"question"}), _OPEN_PROMPT),
    "open_target": (frozenset({"answer"}), frozenset({"answer"})),
    "choice_basic": (frozenset({"question", "options"}), _CHOICE_PROMPT),
    "choice_refuse": (frozenset({"question", "options"}), _CHOICE_PROMPT),
    "choice_option": (frozenset({"letter", "option"}), frozenset({"letter", "option"})),
    "choice_target": (frozenset({"letter"}), frozenset({"letter"})),
    "or_word": (frozenset(), frozenset()),
    "default_topic": (frozenset(), frozenset()),
    "refusal": (frozenset(), frozenset()),
}
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_PROMPTS = frozenset({"open_probe", "open_basic", "open_refuse", "choice_basic", "choice_refuse"})
MAX_TEMPLATES = len(_PLACEHOLDERS)

DEFAULT_TEMPLATES = PromptTemplates()


def templates_from(overrides: Mapping[str, str]) -> PromptTemplates:
    """The default templates with `overrides`.

    Raises RequestInvalid for an unknown template, a blank or too long one, and a placeholder that is missing, cannot be
    filled or comes too often.
    """
    known = {field.name for field in fields(PromptTemplates)}
    for name, template in overrides.items():
        if name not in known:
            raise RequestInvalid(f"no template is called {name}", hint=f"known: {', '.join(sorted(known))}", param=name)
        if not template.strip():
            raise RequestInvalid(f"template {name} is blank", param=name)
        _check_size(name, template)
        _check_placeholders(name, template)
    return replace(DEFAULT_TEMPLATES, **overrides)


def _check_size(name: str, template: str) -> None:
    most = MAX_TEMPLATE_BYTES if name in _PROMPTS else MAX_PART_BYTES
    size = len(template.encode())
    if size > most:
        raise RequestInvalid(
            f"template {name} has {size:,} bytes; {most:,} are the most",
            hint="shorten it: what differs from question to question belongs into the dataset",
            param=name,
        )


def _check_placeholders(name: str, template: str) -> None:
    needed, allowed = _PLACEHOLDERS[name]
    present = Counter(_PLACEHOLDER.findall(template))
    if lacking := needed - {*present}:
        raise RequestInvalid(f"template {name} lacks {_braced(lacking)}", param=name)
    if unknown := {*present} - allowed:
        raise RequestInvalid(
            f"template {name} cannot fill {_braced(unknown)}",
            hint=f"it may hold {_braced(allowed) or 'no placeholder'}",
            param=name,
        )
    often, times = max(present.items(), key=lambda each: each[1], default=("", 0))
    if times > MAX_REPEATS:
        raise RequestInvalid(
            f"template {name} has {_braced([often])} {times:,} times; {MAX_REPEATS} are the most",
            hint="a prompt needs a question once",
            param=name,
        )


def _braced(names: Collection[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Replace placeholders in one pass, so that braces inside a question, an option or an answer remain."""
    return _PLACEHOLDER.sub(lambda match: values.get(match.group(1), match.group(0)), template)


def _refusals(templates: PromptTemplates) -> dict[str, str]:
    return {"refusal": templates.refusal, "refusal_words": templates.refusal.rstrip(".!。！ ")}


def _user_message(template: str, question: Question, templates: PromptTemplates) -> ModelMessage:
    values = {
        "question": question.question,
        "topic": (question.category or templates.default_topic).replace("_", " "),
        **_refusals(templates),
    }
    if isinstance(question, ChoiceQuestion):
        options = (
            _fill(templates.choice_option, {"letter": letter, "option": choice})
            for letter, choice in zip(question.letters, question.choices, strict=True)
        )
        first, last = ", ".join(question.letters[:-1]), question.letters[-1]
        comma = "," if len(question.letters) > 2 else ""
        values["options"] = "\n".join(options)
        values["letters"] = f"{first} {templates.or_word} {last}"
        values["letters_comma"] = f"{first}{comma} {templates.or_word} {last}"
    return ModelMessage("user", _fill(template, values))


def probe_messages(question: Question, shots: Sequence[Question], templates: PromptTemplates) -> list[ModelMessage]:
    """The probe's prompt: each shot as a user and an assistant message, then the question.

    Multiple choice uses the BASIC template and answers with a letter. Raises RequestInvalid for a shot of the other
    task.
    """
    template = templates.choice_basic if isinstance(question, ChoiceQuestion) else templates.open_probe
    messages: list[ModelMessage] = []
    for shot in shots:
        if type(shot) is not type(question):
            raise RequestInvalid(f"shot {shot.id} is not of the same task as the question", param="shots")
        messages += (_user_message(template, shot, templates), ModelMessage("assistant", target(shot, templates)))
    return [*messages, _user_message(template, question, templates)]


def answer_messages(question: Question, mode: PromptMode, templates: PromptTemplates) -> list[ModelMessage]:
    """The zero-shot prompt of training and evaluation."""
    task = Task.MULTIPLE_CHOICE if isinstance(question, ChoiceQuestion) else Task.OPEN_ENDED
    return [_user_message(_template(task, mode, templates), question, templates)]


def answer_template(task: Task, mode: PromptMode, templates: PromptTemplates) -> str:
    """The template of `answer_messages`, with the refusal filled in and the placeholders of a question left."""
    return _fill(_template(task, mode, templates), _refusals(templates))


def _template(task: Task, mode: PromptMode, templates: PromptTemplates) -> str:
    if task is Task.MULTIPLE_CHOICE:
        return templates.choice_refuse if mode is PromptMode.REFUSE else templates.choice_basic
    return templates.open_refuse if mode is PromptMode.REFUSE else templates.open_basic


def target(question: Question, templates: PromptTemplates) -> str:
    """The target text of training: the first accepted answer, or the right letter."""
    if isinstance(question, ChoiceQuestion):
        return _fill(templates.choice_target, {"letter": question.answer_letter})
    return _fill(templates.open_target, {"answer": question.answers[0]})
