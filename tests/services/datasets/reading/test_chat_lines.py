"""OpenAI's chat lines: one question and one answer a line; a line that is anything else is named with its reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from craft_datasets.reading.formats import read_raw
from craft_datasets.reading.json_lines import RawRow

USER: dict[str, Any] = {"role": "user", "content": "Why?"}
ASSISTANT: dict[str, Any] = {"role": "assistant", "content": "Because."}


def chat(*messages: object, **members: object) -> str:
    return json.dumps({"messages": messages, **members})


def read(folder: Path, *lines: str) -> list[RawRow]:
    path = folder / "chats"
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    return list(read_raw(path, max_line_bytes=2000, chat_lines=True))


def test_a_chat_is_a_question_with_its_answer(tmp_path: Path) -> None:
    system = {"role": "developer", "content": "Be brief."}
    parts = {"role": "user", "content": [{"type": "text", "text": "W"}, {"type": "text", "text": "ho?"}]}
    found = read(
        tmp_path,
        chat(system, USER, ASSISTANT),
        chat(parts, {**ASSISTANT, "weight": 1, "name": "tutor"}, answers=["Me"], category="names", id=7),
    )
    assert [row.row for row in found] == [
        {"question": "Be brief.\n\nWhy?", "answers": ["Because."]},
        {"question": "Who?", "answers": ["Because.", "Me"], "category": "names", "id": 7},
    ]


def test_every_line_is_counted(tmp_path: Path) -> None:
    one, other = chat(USER, ASSISTANT), chat(USER, ASSISTANT, answers=["So."])
    found = read(tmp_path, one, "", other)
    assert [(row.line, row.problem) for row in found] == [(1, None), (3, None)]


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        ("{", "messages", "not valid JSON"),
        ('{"messages": NaN}', "messages", "not valid JSON"),
        ("[]", "messages", "not a JSON object"),
        (chat(USER, ASSISTANT, note="x" * 2000), "messages", "longer than 2,000 bytes"),
        (chat(USER, ASSISTANT, **{"tools\n": []}), "tools\\n", "`tools\\n` cannot be taught"),
        ("{}", "messages", "list of messages"),
        (chat("Why?"), "messages", "list of messages"),
        (chat({"role": []}), "messages", "one question of `user`"),
        (chat(USER, ASSISTANT, USER, ASSISTANT), "messages", "Earlier turns are not taken"),
        (chat(USER, {**ASSISTANT, "weight": 0}), "messages.weight", "teaches nothing"),
        (chat(USER, {**ASSISTANT, "refusal": "no"}), "messages.1.refusal", "`refusal` cannot be taught"),
        (chat(USER, {**ASSISTANT, "tool_calls": []}), "messages.1.tool_calls", "a role and a text"),
        (chat(USER, {"role": "assistant", "content": " "}), "messages.1.content", "a text"),
        (chat({"role": "user", "content": [{"type": "image_url"}]}, ASSISTANT), "messages.0.content", "a text"),
        (chat(USER, ASSISTANT, answers="So."), "answers", "a list of texts"),
        (chat(USER, ASSISTANT, answers=[["So."]]), "answers", "a list of texts"),
        (chat(USER, ASSISTANT, id=["a"]), "id", "a text"),
        (chat(USER, ASSISTANT, category={"a": 1}), "category", "a text"),
    ],
)
def test_a_line_that_is_no_question_with_its_answer_is_a_row_error(
    tmp_path: Path, line: str, field: str, message: str
) -> None:
    good, broken = read(tmp_path, chat(USER, ASSISTANT), line)
    assert good.row is not None
    assert broken.problem is not None
    assert (broken.line, broken.problem.line, broken.problem.field) == (2, 2, field)
    assert message in broken.problem.message
