"""Columns that are called otherwise, nested ones and chats become the rows that questions are read from."""

from typing import Any

import pytest

from craft.core.questions import OpenQuestion, Task
from craft.core.rows.columns import NO_MAP, ColumnMap
from craft.core.rows.fields import RowInvalid
from craft.core.rows.reader import question_from_row
from craft.errors import RequestInvalid

CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Which is the largest planet?"},
    {"role": "assistant", "content": "Jupiter"},
]


@pytest.mark.parametrize(
    ("columns", "row", "mapped"),
    [
        ({}, {"question": "q", "answer": "a", "more": 1}, {"question": "q", "answer": "a"}),
        ({"question": "prompt"}, {"prompt": "p", "question": "q", "answer": "a"}, {"question": "p", "answer": "a"}),
        (
            {"answers": "completion"},
            {"question": "q", "answer": "x", "completion": "c"},
            {"question": "q", "answers": "c"},
        ),
        ({"answer": "gold"}, {"question": "q", "answers": ["x"], "gold": "g"}, {"question": "q", "answer": "g"}),
        ({"question": "data.q"}, {"data": {"q": "nested"}}, {"question": "nested"}),
        ({"question": "data.q"}, {"data.q": "as it is", "data": {"q": "nested"}}, {"question": "as it is"}),
        ({"answers": "answers.text"}, {"answers": {"text": ["a", "b"]}}, {"answers": ["a", "b"]}),
        ({"answer": "options.1"}, {"options": ["a", "b"]}, {"answer": "b"}),
        ({"answer": "options.2"}, {"options": ["a", "b"]}, {}),
        ({"answer": "options.x"}, {"options": ["a", "b"]}, {}),
        ({"id": "key"}, {"id": "x", "key": None}, {}),
    ],
)
def test_a_row_gets_our_names(columns: dict[str, str], row: dict[str, object], mapped: dict[str, object]) -> None:
    assert ColumnMap(columns).apply(row) == mapped


@pytest.mark.parametrize(
    "turns",
    [
        CHAT,
        [*CHAT, {"role": "tool", "content": None}],
        [{"from": "human", "value": "Which is the largest planet?"}, {"from": "gpt", "value": "Jupiter"}],
        [
            {
                "role": "user",
                "content": [{"type": "text", "text": "Which is the "}, {"type": "text", "text": "largest planet?"}],
            },
            {"role": "assistant", "content": None, "tool_calls": []},
            {"role": "assistant", "content": "Jupiter"},
        ],
    ],
    ids=["chat", "with a tool", "ShareGPT", "parts"],
)
def test_a_chats_last_question_is_asked_and_its_reply_is_the_answer(turns: list[object]) -> None:
    row = ColumnMap({"messages": "turns", "id": "key"}).apply({"turns": turns, "key": "1", "question": "another"})
    found = question_from_row(row, task=Task.OPEN_ENDED)
    assert found == OpenQuestion("1", "Which is the largest planet?", ("Jupiter",))


@pytest.mark.parametrize(
    ("turns", "field", "reason"),
    [
        (None, "messages", "must be a list of messages"),
        ([], "messages", "must be a list of messages"),
        ("user: why?", "messages", "must be a list of messages"),
        (CHAT[:1], "messages", "has no message of the role user"),
        (CHAT[:4], "messages", "has no assistant's message after the last user's"),
        (["why?"], "messages[0]", "must be an object with `role` and `content`"),
        ([{"content": "why?"}], "messages[0].role", "must be text"),
        ([{"role": 1, "content": "why?"}], "messages[0].role", "must be text"),
        ([{"role": "user", "content": 3}], "messages[0].content", "must be text"),
        (
            [{"role": "user", "content": [{"type": "image_url"}]}],
            "messages[0].content",
            "may hold parts of the type text only",
        ),
        ([{"role": "user", "content": ["why?"]}], "messages[0].content", "may hold parts of the type text only"),
    ],
)
def test_a_chat_without_an_answer_is_a_row_error(turns: object, field: str, reason: str) -> None:
    columns = ColumnMap({"messages": "turns"})
    with pytest.raises(RowInvalid) as caught:
        columns.apply({"turns": turns})
    assert (caught.value.field, caught.value.reason) == (field, reason)
    assert columns.own_name(field) == field.replace("messages", "turns")


@pytest.mark.parametrize(
    ("columns", "field", "own"),
    [
        ({}, "answers[0]", "answers[0]"),
        ({"answers": "completion"}, "answers[0]", "completion[0]"),
        ({"answer": "gold"}, "answers", "gold"),
        ({"question": "prompt"}, "answers", "answers"),
        ({"choices": "options"}, "choices.label", "options.label"),
        ({"messages": "turns"}, "question", "turns"),
        ({"messages": "turns"}, "category", "category"),
        ({}, "[0]", "[0]"),
    ],
)
def test_errors_name_the_files_own_columns(columns: dict[str, str], field: str, own: str) -> None:
    assert ColumnMap(columns).own_name(field) == own


def test_mapped_columns_that_lead_nowhere_are_known() -> None:
    columns = ColumnMap({"question": "data.q", "answers": "gold", "id": "a.b"})
    assert columns.absent(["data", "a.b"]) == ["gold"]
    assert NO_MAP.absent([]) == []


@pytest.mark.parametrize(
    "columns", [{"prompt": "x"}, {"messages": "m", "question": "q"}, {"messages": "m", "answer": "a"}]
)
def test_a_map_that_means_nothing_is_refused(columns: dict[str, str]) -> None:
    with pytest.raises(RequestInvalid) as caught:
        ColumnMap(columns)
    assert (caught.value.param, bool(caught.value.hint)) == ("columns", True)
