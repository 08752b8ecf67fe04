"""The prompts of both tasks as chat messages. Every wording is data that a job may replace."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import NamedTuple

from craft.core.questions import ChoiceQuestion, Question, Task
from craft.errors import RequestInvalid


class ModelMessage(NamedTuple):
    """One chat turn; `role` is "user" or "assistant"."""

    role: str
    content: str


class PromptMode(StrEnum):
    """BASIC asks; REFUSE asks and allows the refusal."""

    BASIC = "basic"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class PromptTemplates:
    """The wordings of method.md, with `{placeholder}`s; any other brace is text.

    {question} {topic} {options}; {letters} "A, B, C or D"; {letters_comma} "A, B, C, or D"; {refusal}, and
    {refusal_words}, the same without the full stop; {letter} and {option} in the line of one option; {answer} and
    {letter} in the targets.
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


_OPEN_TURN = frozenset({"question", "topic", "refusal", "refusal_words"})
_CHOICE_TURN = _OPEN_TURN | {"options", "letters", "letters_comma"}
# For each template: (placeholders it must hold, placeholders it may hold).
_PLACEHOLDERS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "open_probe": (frozenset({"question"}), _OPEN_TURN),
    "open_basic": (frozenset({"question"}), _OPEN_TURN),
    "open_refuse": (frozenset({"question"}), _OPEN_TURN),
    "open_target": (frozenset({"answer"}), frozenset({"answer"})),
    "choice_basic": (frozenset({"question", "options"}), _CHOICE_TURN),
    "choice_refuse": (frozenset({"question", "options"}), _CHOICE_TURN),
    "choice_option": (frozenset({"letter", "option"}), frozenset({"letter", "option"})),
    "choice_target": (frozenset({"letter"}), frozenset({"letter"})),
    "or_word": (frozenset(), frozenset()),
    "default_topic": (frozenset(), frozenset()),
    "refusal": (frozenset(), frozenset()),
}
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")

DEFAULT_TEMPLATES = PromptTemplates()


def templates_from(overrides: Mapping[str, str]) -> PromptTemplates:
    """The default templates with some replaced.

    RequestInvalid for an unknown template, a blank one, a placeholder it needs and lacks, or one it cannot fill.
    """
    known = {field.name for field in fields(PromptTemplates)}
    for name, template in overrides.items():
        if name not in known:
            raise RequestInvalid(f"no template is called {name}", hint=f"known: {', '.join(sorted(known))}", param=name)
        if not template.strip():
            raise RequestInvalid(f"template {name} is blank", param=name)
        needed, allowed = _PLACEHOLDERS[name]
        found = set(_PLACEHOLDER.findall(template))
        if lacking := needed - found:
            raise RequestInvalid(f"template {name} lacks {_braced(lacking)}", param=name)
        if unknown := found - allowed:
            raise RequestInvalid(
                f"template {name} cannot fill {_braced(unknown)}",
                hint=f"it may hold {_braced(allowed) or 'no placeholder'}",
                param=name,
            )
    return replace(DEFAULT_TEMPLATES, **overrides)


def _braced(names: Collection[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))


def _fill(template: str, values: Mapping[str, str]) -> str:
    """Replace placeholders in one pass, so that braces inside a question, an option or an answer survive."""
    return _PLACEHOLDER.sub(lambda found: values.get(found.group(1), found.group(0)), template)


def _refusals(templates: PromptTemplates) -> dict[str, str]:
    return {"refusal": templates.refusal, "refusal_words": templates.refusal.rstrip(".!。！ ")}


def _turn(template: str, question: Question, templates: PromptTemplates) -> ModelMessage:
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
    """The probe of stage 1: each shot as a user and an assistant turn, then the question.

    Multiple choice uses the BASIC wording and answers with a letter. RequestInvalid where a shot is of the other task.
    """
    template = templates.choice_basic if isinstance(question, ChoiceQuestion) else templates.open_probe
    messages: list[ModelMessage] = []
    for shot in shots:
        if type(shot) is not type(question):
            raise RequestInvalid(f"shot {shot.id} is not of the same task as the question", param="shots")
        messages += (_turn(template, shot, templates), ModelMessage("assistant", target(shot, templates)))
    return [*messages, _turn(template, question, templates)]


def answer_messages(question: Question, mode: PromptMode, templates: PromptTemplates) -> list[ModelMessage]:
    """The zero-shot prompt of training and evaluation."""
    task = Task.MULTIPLE_CHOICE if isinstance(question, ChoiceQuestion) else Task.OPEN_ENDED
    return [_turn(_wording(task, mode, templates), question, templates)]


def answer_template(task: Task, mode: PromptMode, templates: PromptTemplates) -> str:
    """What `answer_messages` fills: the refusal is in its place, the placeholders of a question are left."""
    return _fill(_wording(task, mode, templates), _refusals(templates))


def _wording(task: Task, mode: PromptMode, templates: PromptTemplates) -> str:
    if task is Task.MULTIPLE_CHOICE:
        return templates.choice_refuse if mode is PromptMode.REFUSE else templates.choice_basic
    return templates.open_refuse if mode is PromptMode.REFUSE else templates.open_basic


def target(question: Question, templates: PromptTemplates) -> str:
    """The text that teaches the answer: the first accepted answer, or the right letter."""
    if isinstance(question, ChoiceQuestion):
        return _fill(templates.choice_target, {"letter": question.answer_letter})
    return _fill(templates.open_target, {"answer": question.answers[0]})


def first_examined_shot(shots: Iterable[Question], held_out: Iterable[Question]) -> Question | None:
    """The first shot that asks what the evaluation split asks, whatever its case and spaces; None is as it must be.

    Such a shot would tell the model an answer that it is to be examined on.
    """
    examined = {_plain(question) for question in held_out}
    return next((shot for shot in shots if _plain(shot) in examined), None)


def _plain(question: Question) -> str:
    return " ".join(question.question.casefold().split())
