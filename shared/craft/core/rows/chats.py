"""Reads a chat: its last question, with the system message before it, and the assistant's reply."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from craft.core.rows.fields import RowInvalid, is_list
from craft.core.rows.written import WrittenInvalid, read_written

MESSAGES = "messages"
"""Our name of a chat's column."""
INSTRUCTING_ROLES = ("system", "developer")
_ROLES: Mapping[str, str] = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
"""Other names of roles. ShareGPT's turns have `from` and `value`."""


class Exchange(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


def instructed(instruction: str, question: str) -> str:
    """The question as the model will see it: after the system message, where there is one."""
    return f"{instruction.strip()}\n\n{question.strip()}" if instruction.strip() else question


def last_exchange(turns: object) -> Exchange:
    """The last user message, with the system message before it, and the assistant's reply to it.

    Earlier turns are left out; the list may be written as text. Raises RowInvalid for a chat without a question and
    its answer.
    """
    turns = _listed(turns)
    if not is_list(turns) or not turns:
        raise RowInvalid.of(MESSAGES, "must be a list of messages", turns)
    messages = [_message(number, turn) for number, turn in enumerate(turns)]
    last = max((number for number, (role, _) in enumerate(messages) if role == "user"), default=None)
    if last is None:
        raise RowInvalid.of(MESSAGES, "has no message of the role user", turns)
    replies = [content for role, content in messages[last + 1 :] if role == "assistant"]
    if not replies:
        raise RowInvalid.of(MESSAGES, "has no assistant's message after the last user's", turns)
    return Exchange(instructed(_instruction(messages), messages[last][1]), replies[0])


def has_earlier_turns(turns: object) -> bool:
    """Whether a chat that `last_exchange` reads has another message of user or assistant before the last user's."""
    found = _listed(turns)
    roles = [_message(number, turn)[0] for number, turn in enumerate(found)] if is_list(found) else []
    last = max((number for number, role in enumerate(roles) if role == "user"), default=0)
    return not {"user", "assistant"}.isdisjoint(roles[:last])


def _listed(turns: object) -> object:
    """The chat, also where a file holds it as text. Raises RowInvalid for a text that is a broken list."""
    if not isinstance(turns, str):
        return turns
    try:
        return read_written(turns)
    except WrittenInvalid as error:
        raise RowInvalid.of(MESSAGES, str(error), turns) from None


def _instruction(messages: Sequence[tuple[str, str]]) -> str:
    role, content = messages[0]
    return content if role in INSTRUCTING_ROLES else ""


def _message(number: int, turn: object) -> tuple[str, str]:
    """The role and the text of a message."""
    if not isinstance(turn, Mapping):
        raise RowInvalid.of(f"{MESSAGES}[{number}]", "must be an object with `role` and `content`", turn)
    role = turn.get("role", turn.get("from"))
    content = turn.get("content", turn.get("value"))
    if is_list(content):
        content = "".join(_part(number, part) for part in content)
    if role is None or not isinstance(role, str):
        raise RowInvalid.of(f"{MESSAGES}[{number}].role", "must be text", role)
    # A message that calls a tool has no content, and is no answer.
    if content is None:
        return "tool", ""
    if not isinstance(content, str):
        raise RowInvalid.of(f"{MESSAGES}[{number}].content", "must be text", content)
    role = role.casefold()
    return _ROLES.get(role, role), content


def _part(number: int, part: object) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise RowInvalid.of(f"{MESSAGES}[{number}].content", "may hold parts of the type text only", part)
    return text
