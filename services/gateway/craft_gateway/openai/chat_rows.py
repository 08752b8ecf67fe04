"""OpenAI's chat lines become rows of a dataset, and rows become chat lines: line by line, however many there are.

A line is one question and one answer. A system message stands before the question, as the model will see it. Earlier
turns are refused: what the method measures is whether the model knows the answer to a question that stands alone.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, BinaryIO

import orjson

from craft.contracts.stages.rows import QuestionRow
from craft.core.rows.fields import excerpt
from craft.errors import DatasetInvalid, ErrorDetail
from craft.infra.storage.artifacts import read_rows

MOST_LINE_BYTES = 1_000_000
_MOST_DETAILS = 100
_BOM = b"\xef\xbb\xbf"
_MEMBERS = {"messages", "answers", "category", "id"}
_INSTRUCTIONS = {"system", "developer"}
_HINT = (
    'Each line is {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}, with a '
    "system message before them if you like; `answers` may list further texts that count as right."
)


class LineInvalid(Exception):
    """Why a line is no question with its answer; `field` is where."""

    def __init__(self, field: str, message: str, value: object = None) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.value = value


def rows_of_chat(source: BinaryIO, target: IO[bytes]) -> int:
    """Write a row for each chat line, in the same line, and return how many; a line said before stays empty.

    Raises DatasetInvalid with up to 100 line errors and their full count, or where there is no line at all.
    """
    bad: list[ErrorDetail] = []
    wrong = good = 0
    seen: set[int] = set()
    for number, line in enumerate(_lines(source), start=1):
        try:
            row = None if line is not None and not line.strip() else _row(line)
        except LineInvalid as error:
            wrong += 1
            if len(bad) < _MOST_DETAILS:
                shown = None if error.value is None else excerpt(error.value)
                bad.append(ErrorDetail(error.message, field=error.field, line=number, excerpt=shown))
            continue
        written = b"" if row is None else orjson.dumps(row)
        if row is not None and hash(written) not in seen:
            seen.add(hash(written))
            target.write(written)
            good += 1
        target.write(b"\n")
    if wrong:
        raise DatasetInvalid(f"{wrong:,} lines cannot be used.", hint=_HINT, param="file", details=bad)
    if not good:
        raise DatasetInvalid("The file has no lines.", hint=_HINT, param="file")
    return good


def chat_of_rows(path: Path) -> Iterator[bytes]:
    """A chat line for each row of an open-ended dataset; `rows_of_chat` makes the same rows of them."""
    for row in read_rows(path, QuestionRow):
        answers = row.answers or [""]
        turns = ({"role": "user", "content": row.question}, {"role": "assistant", "content": answers[0]})
        line: dict[str, object] = {"messages": turns, "id": row.id}
        if len(answers) > 1:
            line["answers"] = answers[1:]
        if row.category is not None:
            line["category"] = row.category
        yield orjson.dumps(line) + b"\n"


def _lines(source: BinaryIO) -> Iterator[bytes | None]:
    """The file's lines; None for one that is too long to be read."""
    first = True
    while raw := source.readline(MOST_LINE_BYTES + 1):
        if len(raw) > MOST_LINE_BYTES and not raw.endswith(b"\n"):
            while (more := source.readline(1 << 20)) and not more.endswith(b"\n"):
                pass
            yield None
        else:
            yield raw.removeprefix(_BOM) if first else raw
        first = False


def _row(line: bytes | None) -> dict[str, object]:
    if line is None:
        raise LineInvalid("messages", f"The line is longer than {MOST_LINE_BYTES:,} bytes.")
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise LineInvalid(
            "messages", f"The line is not valid JSON: {error.msg}.", line[:120].decode(errors="replace")
        ) from None
    if not isinstance(value, dict):
        raise LineInvalid("messages", "The line is not a JSON object.", value)
    unknown = sorted(set(value) - _MEMBERS)
    if unknown:
        raise LineInvalid(unknown[0], f"`{unknown[0]}` cannot be taught here: a line has `messages` only.")
    question, answer = _turns(value.get("messages"))
    further = value.get("answers", [])
    if not isinstance(further, list):
        raise LineInvalid("answers", "`answers` is a list of texts.", further)
    row: dict[str, object] = {"question": question, "answers": [answer, *further]}
    return row | {name: value[name] for name in ("category", "id") if value.get(name) is not None}


def _turns(messages: object) -> tuple[str, str]:
    """The question, with what a system message says before it, and the answer."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise LineInvalid("messages", "`messages` is a list of messages.", messages)
    roles = [message.get("role") for message in messages]
    start = 1 if roles and roles[0] in _INSTRUCTIONS else 0
    if roles[start:] != ["user", "assistant"]:
        raise LineInvalid(
            "messages",
            "A line is one question of `user` and one answer of `assistant`, with one system message at most before "
            "them. Earlier turns are not taken: make a question that stands alone of each, in a line of its own.",
            ", ".join(str(role) for role in roles),
        )
    texts = [_text(message, position) for position, message in enumerate(messages)]
    if messages[-1].get("weight", 1) != 1:
        raise LineInvalid("messages.weight", "An answer with weight 0 teaches nothing: leave the line out.")
    return "\n\n".join(texts[:-1]), texts[-1]


def _text(message: Mapping[str, object], position: int) -> str:
    field, content = f"messages.{position}", message.get("content")
    unknown = sorted(set(message) - {"role", "content", "name", "weight", "refusal"})
    if unknown or message.get("refusal") is not None:
        name = unknown[0] if unknown else "refusal"
        raise LineInvalid(f"{field}.{name}", f"`{name}` cannot be taught here: a message has a role and a text.")
    if isinstance(content, list):
        content = _joined(content)
    if not isinstance(content, str) or not content.strip():
        raise LineInvalid(f"{field}.content", "`content` is a text, or a list of parts of type text.", content)
    return content


def _joined(parts: list[object]) -> str | None:
    """The parts' text; None where one is something else."""
    texts: list[str] = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts)
