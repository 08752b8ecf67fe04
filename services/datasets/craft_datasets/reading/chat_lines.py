"""OpenAI's chat lines become rows: each line is one question and its answer.

A system message is put before the question, as the model will see it. Earlier turns are refused: the method measures
whether the model knows the answer to a question that stands alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from craft.core.rows.chats import INSTRUCTING_ROLES, instructed
from craft.core.rows.fields import excerpt
from craft_datasets.reading.json_lines import RawRow

_MEMBERS = {"messages", "answers", "category", "id"}
_MESSAGE_MEMBERS = {"role", "content", "name", "weight", "refusal"}


class ChatLineInvalid(Exception):
    """The line is no question with its answer; `field` says where, `value` is shown."""

    def __init__(self, field: str, message: str, value: object = None) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.value = value


def chat_rows(lines: Iterable[RawRow]) -> Iterator[RawRow]:
    """Turn each chat into a row of `question` and `answers`."""
    for raw in lines:
        if raw.row is None:
            yield raw if raw.problem is None else raw._replace(problem=replace(raw.problem, field="messages"))
            continue
        try:
            row = _row(raw.row)
        except ChatLineInvalid as error:
            yield RawRow.broken(raw.line, error.message, error.value, field=error.field)
            continue
        yield RawRow(raw.line, row)


def _row(line: Mapping[str, object]) -> dict[str, object]:
    unknown = sorted(set(line) - _MEMBERS)
    if unknown:
        name = excerpt(unknown[0])
        raise ChatLineInvalid(name, f"`{name}` cannot be taught here: a line has `messages` only.")
    question, answer = _question_and_answer(line.get("messages"))
    further = line.get("answers", [])
    if not isinstance(further, list) or not all(isinstance(text, str) for text in further):
        raise ChatLineInvalid("answers", "`answers` is a list of texts.", further)
    row: dict[str, object] = {"question": question, "answers": [answer, *further]}
    for name in ("category", "id"):
        value = line.get(name)
        if isinstance(value, (list, dict)):
            raise ChatLineInvalid(name, f"`{name}` is a text.", value)
        if value is not None:
            row[name] = value
    return row


def _question_and_answer(messages: object) -> tuple[str, str]:
    """The question, with the system message before it, and the answer."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ChatLineInvalid("messages", "`messages` is a list of messages.", messages)
    roles = [message.get("role") for message in messages]
    start = 1 if roles and roles[0] in INSTRUCTING_ROLES else 0
    if roles[start:] != ["user", "assistant"]:
        raise ChatLineInvalid(
            "messages",
            "A line is one question of `user` and one answer of `assistant`, with one system message at most before "
            "them. Earlier turns are not taken: make a question that stands alone of each, in a line of its own.",
            ", ".join(str(role) for role in roles),
        )
    texts = [_text(message, position) for position, message in enumerate(messages)]
    if messages[-1].get("weight", 1) != 1:
        raise ChatLineInvalid("messages.weight", "An answer with weight 0 teaches nothing: leave the line out.")
    *instruction, question, answer = texts
    return instructed("".join(instruction), question), answer


def _text(message: Mapping[str, object], position: int) -> str:
    field, content = f"messages.{position}", message.get("content")
    unknown = sorted(set(message) - _MESSAGE_MEMBERS)
    if unknown or message.get("refusal") is not None:
        name = excerpt(unknown[0]) if unknown else "refusal"
        raise ChatLineInvalid(f"{field}.{name}", f"`{name}` cannot be taught here: a message has a role and a text.")
    if isinstance(content, list):
        content = _joined(content)
    if not isinstance(content, str) or not content.strip():
        raise ChatLineInvalid(f"{field}.content", "`content` is a text, or a list of parts of type text.", content)
    return content


def _joined(parts: list[object]) -> str | None:
    """The text of all parts; None if a part is not text."""
    texts: list[str] = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)
