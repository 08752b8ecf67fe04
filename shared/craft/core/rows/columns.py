"""Maps a dataset's own columns to our names: rows in any shape become rows that `question_from_row` reads."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from craft.core.rows.fields import RowInvalid, is_list
from craft.errors import RequestInvalid

COLUMNS = ("question", "answers", "answer", "choices", "id", "category")
"""The names that `question_from_row` reads."""
MESSAGES = "messages"
"""A chat: the last user message is the question, and the assistant's reply to it is the answer."""
_INSTEAD_OF: Mapping[str, tuple[str, ...]] = {
    "answer": ("answers",),
    "answers": ("answer",),
    MESSAGES: ("question", "answers", "answer", "choices"),
}
_ABSENT = object()
_HEAD = re.compile(r"[a-z]+")
_ROLES: Mapping[str, str] = {"human": "user", "gpt": "assistant"}
"""ShareGPT's roles. Its turns have `from` and `value`."""


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """By our name, the dataset's own column or a dotted path into one (`data.prompt`, `answers.text`, `choices.0`).

    A column whose name is `a.b` comes before a path. Columns that are not mapped keep their names, but a mapped answer
    replaces every other column that could be one.
    """

    paths: Mapping[str, str]

    def __post_init__(self) -> None:
        """Raises RequestInvalid for a name that is not ours, and for `messages` beside a name that it replaces."""
        unknown = [name for name in self.paths if name not in {*COLUMNS, MESSAGES}]
        if unknown:
            raise RequestInvalid(
                f"`columns` knows no {unknown[0][:100]}.",
                hint=f"Map some of {', '.join((*COLUMNS, MESSAGES))} to columns of the file.",
                param="columns",
            )
        doubled = [name for name in _INSTEAD_OF[MESSAGES] if name in self.paths]
        if MESSAGES in self.paths and doubled:
            raise RequestInvalid(
                f"`columns` maps both `messages` and `{doubled[0]}`.",
                hint="A chat holds question and answer; beside `messages` only `id` and `category` can be mapped.",
                param="columns",
            )

    def apply(self, row: Mapping[str, object]) -> dict[str, object]:
        """The row under our names. Raises RowInvalid for a chat without a question and its answer."""
        replaced = {MESSAGES, *self.paths, *(name for ours in self.paths for name in _INSTEAD_OF.get(ours, ()))}
        mapped = {name: row[name] for name in COLUMNS if name in row and name not in replaced}
        for ours, path in self.paths.items():
            value = _found(row, path)
            if value is not _ABSENT and value is not None:
                mapped[ours] = value
        if MESSAGES in self.paths:
            question, answer = _last_exchange(mapped.pop(MESSAGES, None))
            mapped |= {"question": question, "answer": answer}
        return mapped

    def own_name(self, field: str) -> str:
        """The dataset's own name for a field of `RowInvalid`: `answers[0]` may be its `completion[0]`."""
        found = _HEAD.match(field)
        ours = found[0] if found else field
        for name in (ours, *_INSTEAD_OF.get(ours, ())):
            if name in self.paths:
                return self.paths[name] + field.removeprefix(ours)
        chat = ours in _INSTEAD_OF[MESSAGES] and MESSAGES in self.paths
        return self.paths[MESSAGES] if chat else field

    def absent(self, columns: Collection[str]) -> Sequence[str]:
        """The mapped names and paths that a dataset with these columns does not have."""
        return [path for path in self.paths.values() if path not in columns and path.partition(".")[0] not in columns]


NO_MAP = ColumnMap({})


def _found(row: Mapping[str, object], path: str) -> object:
    if path in row:
        return row[path]
    value: object = row
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif is_list(value) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _ABSENT
    return value


def _last_exchange(turns: object) -> tuple[str, str]:
    if not is_list(turns) or not turns:
        raise RowInvalid.of(MESSAGES, "must be a list of messages", turns)
    messages = [_message(number, turn) for number, turn in enumerate(turns)]
    last = max((number for number, (role, _) in enumerate(messages) if role == "user"), default=None)
    if last is None:
        raise RowInvalid.of(MESSAGES, "has no message of the role user", turns)
    replies = [content for role, content in messages[last + 1 :] if role == "assistant"]
    if not replies:
        raise RowInvalid.of(MESSAGES, "has no assistant's message after the last user's", turns)
    return messages[last][1], replies[0]


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
    return _ROLES.get(role, role), content


def _part(number: int, part: object) -> str:
    text = part.get("text") if isinstance(part, Mapping) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise RowInvalid.of(f"{MESSAGES}[{number}].content", "may hold parts of the type text only", part)
    return text
