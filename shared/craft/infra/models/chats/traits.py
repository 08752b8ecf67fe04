"""Properties of a chat template that decide whether a job can ask the model with it. Pure functions over renderings."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from jinja2.exceptions import SecurityError

from craft.core.replies.thoughts import open_thought
from craft.infra.models.chats.dates import frozen
from craft.infra.models.chats.sandbox import ChatTemplate, Conversation, Value

_USER = {"role": "user", "content": "Question: What is the capital of Peru? 水, naïve, 🧪 <b> {{ x }}\nAnswer:"}
_ASSISTANT = {"role": "assistant", "content": "Lima."}
_SYSTEM = {"role": "system", "content": "Answer in one word."}
CONVERSATIONS = (
    Conversation((_USER,), add_generation_prompt=True),
    Conversation((_USER, _ASSISTANT), add_generation_prompt=False),
    Conversation((_USER, _ASSISTANT) * 5 + (_USER,), add_generation_prompt=True),
    # Some templates refuse system messages.
    Conversation((_SYSTEM, _USER, _ASSISTANT, _USER), add_generation_prompt=True, needed=False),
    Conversation((_SYSTEM, _USER, _ASSISTANT), add_generation_prompt=False, needed=False),
)
_PROMPT, _WHOLE = CONVERSATIONS[:2]
_MOMENTS = (datetime(2001, 2, 3, 4, 5, 6), datetime(2028, 11, 30))  # noqa: DTZ001 - compared with one another only
_OFF: tuple[Value, ...] = (False, True, 0, "none", "off", "no_think")
_CHANNEL = re.compile(r"<\|channel\|?>")
_MAX_REASON_LENGTH = 200
_MAX_END_LENGTH = 200


class OpenThought(NamedTuple):
    """The tag of a thought that prompts leave open, and an argument with which they do not, if there is one."""

    tag: str
    argument: tuple[str, Value] | None


class TemplateTraits(NamedTuple):
    """What renderings of a template show.

    `begins_replies` is false if prompts end before the header of a reply. `reads` are the variables that it looks up.
    `dated`: it writes the current date. `channels`: it writes replies into channels, as harmony does. `end` is the text
    that it writes after a reply.
    """

    begins_replies: bool = True
    reads: tuple[str, ...] = ()
    dated: bool = False
    thought: OpenThought | None = None
    channels: bool = False
    end: str = ""


def reason_of(error: Exception) -> str:
    """The words for an error of a template."""
    return f"fails with {type(error).__name__}: {str(error)[:_MAX_REASON_LENGTH]}"


def fault_of(templates: Mapping[str, str], default: str, variables: Mapping[str, Value]) -> str | None:
    """The reason why these templates cannot be used, or None. Raises MemoryError.

    Only the template called `default` is used; others may fail, but must not break out of the sandbox.
    """
    for name, text in templates.items():
        for conversation in CONVERSATIONS:
            try:
                ChatTemplate(text, variables).render(conversation)
            except MemoryError:
                raise
            except Exception as error:  # a template may raise anything
                if isinstance(error, SecurityError) or (conversation.needed and name == default):
                    return reason_of(error)
    return None


def traits_of(template: ChatTemplate) -> TemplateTraits:
    """The traits of a template without a fault. Raises ValueError for a date that cannot be frozen."""
    reads, dated = template.reads(), _is_dated(template)
    header, reply, end = _turn(template)
    return TemplateTraits(
        begins_replies=_begins_replies(template),
        reads=tuple(reads),
        dated=dated,
        thought=_thought(template, reads),
        channels=_CHANNEL.search(header) is not None and bool(reply),
        end=end[:_MAX_END_LENGTH],
    )


def _turn(template: ChatTemplate) -> tuple[str, str, str]:
    """The header of the assistant's turn, its reply (empty if the template changes it), and what stands after it."""
    whole = template.render(_WHOLE)
    after = whole.rpartition(_USER["content"].strip())[2]
    return after.partition(_ASSISTANT["content"])


def _begins_replies(template: ChatTemplate) -> bool:
    """False if a prompt ends before the header that the template writes before a reply.

    The model would then be asked to go on with the user's turn. Templates whose replies follow the user's turn at once
    ("[/INST]") need no header.
    """
    prompt, without = (template.render(Conversation((_USER,), add)) for add in (True, False))
    if prompt != without:
        return True
    whole = template.render(_WHOLE)
    reply = _ASSISTANT["content"]
    if not whole.startswith(prompt.rstrip()) or reply not in whole[len(prompt.rstrip()) :]:
        return True
    return not whole[len(prompt.rstrip()) :].partition(reply)[0].strip()


def _is_dated(template: ChatTemplate) -> bool:
    """True if the text depends on the present. Raises ValueError if freezing the date does not give the same text."""
    early, late = (_texts(template._replace(moment=moment)) for moment in _MOMENTS)
    if early == late:
        return False
    kept = _texts(template._replace(text=frozen(template.text, _MOMENTS[1].date())))
    if kept != late:
        raise ValueError("it writes the date in a form that cannot be kept the same for all of a job")
    return True


def _texts(template: ChatTemplate) -> list[str | None]:
    """All test conversations; None for those that the template refuses."""
    return list(_each_text(template))


def _each_text(template: ChatTemplate) -> Iterator[str | None]:
    for conversation in CONVERSATIONS:
        try:
            yield template.render(conversation)
        except MemoryError:
            raise
        except Exception:  # a template may raise anything
            yield None


def _thought(template: ChatTemplate, reads: list[str]) -> OpenThought | None:
    tag = _open_tag(template)
    if tag is None:
        return None
    ways = ((name, value) for name in reads for value in _OFF)
    return OpenThought(tag, next((way for way in ways if _closes(template, *way)), None))


def _closes(template: ChatTemplate, name: str, value: Value) -> bool:
    """True if the argument keeps prompts from ending inside a thought."""
    try:
        return _open_tag(template._replace(variables={**template.variables, name: value})) is None
    except MemoryError:
        raise
    except Exception:  # the template may refuse the value in any way
        return False


def _open_tag(template: ChatTemplate) -> str | None:
    prompt = template.render(_PROMPT)
    return open_thought(prompt.rpartition(_USER["content"].strip())[2])
