"""Settles how a job's chats are rendered, from what the job asks for and what the model's template does."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

from craft.contracts.spec.chats import WITHOUT_THINKING, ChatFormat
from craft.contracts.spec.jobs import BaseModelRef
from craft.core.findings import FindingCode
from craft.errors import FindingDetail, ModelRejected, Severity
from craft.infra.models.chats.templates import TriedTemplate, default_template, no_template
from craft.infra.models.chats.traits import TemplateTraits

_ARGUMENTS = "base_model.chat_template_arguments"
_MAX_NAMED = 8


class SettledChats(NamedTuple):
    """The form of a job's chats, its template as it was tried, and what was noticed."""

    form: ChatFormat
    template: TriedTemplate
    findings: tuple[FindingDetail, ...]


def settled_chats(folder: Path, wanted: BaseModelRef, *, today: date) -> SettledChats:
    """The form of chats with the model in `folder`. The date is in it only if the template writes one.

    Raises ModelRejected for a model without a template, for a template that fails, and for one with which the model
    would think before each reply; Unavailable on an overloaded machine.
    """
    asked = ChatFormat(arguments=wanted.chat_template_arguments, template=wanted.chat_template)
    tried = default_template(folder, asked)
    if tried is None:
        raise no_template(wanted.id)
    traits = tried.traits
    _check_thought(traits)
    form = ChatFormat(
        arguments={name: value for name, value in asked.arguments.items() if name in traits.reads},
        template=wanted.chat_template,
        date=today if traits.dated else None,
    )
    return SettledChats(form, tried, tuple(_findings(asked, traits)))


def _check_thought(traits: TemplateTraits) -> None:
    if traits.channels:
        raise ModelRejected(
            "The model's chat template writes replies into channels (harmony), so that the model would think before "
            "each answer, and its thought would be judged.",
            hint="Choose a model that answers at once.",
            param="base_model",
        )
    if traits.thought is None:
        return
    tag, argument = traits.thought
    raise ModelRejected(
        f"The model's chat template begins every reply with {tag}, so that the model would think before each answer, "
        "and its thought would be judged.",
        hint=f"Set {json.dumps(argument[0])}: {json.dumps(argument[1])} in {_ARGUMENTS}."
        if argument
        else "Choose a model that answers at once, such as the instruct model of the same family, or give a template "
        "without the tag in base_model.chat_template.",
        param=_ARGUMENTS if argument else "base_model",
    )


def _findings(asked: ChatFormat, traits: TemplateTraits) -> Iterator[FindingDetail]:
    given = {name: value for name, value in asked.arguments.items() if WITHOUT_THINKING.get(name) is not value}
    unread = sorted(given.keys() - set(traits.reads))
    if unread:
        read = ", ".join(traits.reads[:_MAX_NAMED]) or "none"
        yield FindingDetail(
            code=FindingCode.CHAT_ARGUMENTS_UNREAD,
            severity=Severity.WARNING,
            message=f"The model's chat template does not read {', '.join(unread)}. Variables that it reads: {read}.",
            hint=f"Correct the names in {_ARGUMENTS}, or remove them.",
            field=_ARGUMENTS,
            count=len(unread),
        )
