"""Columns that are called otherwise, nested ones and chats become the rows that questions are read from."""

import json
from typing import Any

import pytest

from craft.core.questions import OpenQuestion, Task
from craft.core.rows.columns import NO_MAP, ColumnMap, Paths
from craft.core.rows.fields import RowInvalid
from craft.core.rows.options import option_columns
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
        ({"answers": "answers.text"}, {"answers": "{'text': ['a' 'b']}"}, {"answers": ["a", "b"]}),
        ({"answers": "answers.text"}, {"answers": "['a"}, {}),
        ({"answers": ["value", "more"]}, {"value": "a", "more": ["b", "c"]}, {"answers": ["a", "b", "c"]}),
        ({"answers": ["value", "more"]}, {"value": "a", "more": "['b', 'c']"}, {"answers": ["a", "b", "c"]}),
        ({"answers": ["value", "more"]}, {"value": "['a", "more": ""}, {"answers": ["['a"]}),
        ({"answers": ["value", "more"]}, {"value": None, "more": float("nan")}, {}),
        ({"choices": ["A", "B", "C"]}, {"A": "x", "B": "y", "C": None}, {"choices": ["x", "y"]}),
        ({"choices": ["A", "B", "C"]}, {"A": "x", "C": "z"}, {"choices": ["x", None, "z"]}),
        ({"choices": ["A", "B"]}, {}, {}),
        ({}, {"options": ["a", "b"], "answer": 1}, {"choices": ["a", "b"], "answer": 1}),
        ({}, {"options": ["a", "b"], "choices": ["c", "d"]}, {"choices": ["c", "d"]}),
        ({"answer": "options.1"}, {"options": ["a", "b"]}, {"answer": "b"}),
        ({"answer": "options.2"}, {"options": ["a", "b"]}, {}),
        ({"answer": "options.x"}, {"options": ["a", "b"]}, {}),
        ({"id": "key"}, {"id": "x", "key": None}, {}),
    ],
)
def test_a_row_gets_our_names(columns: Paths, row: dict[str, object], mapped: dict[str, object]) -> None:
    assert ColumnMap(columns).apply(row) == mapped


@pytest.mark.parametrize(
    ("turns", "question"),
    [
        (CHAT, "Be brief.\n\nWhich is the largest planet?"),
        ([*CHAT, {"role": "tool", "content": None}], "Be brief.\n\nWhich is the largest planet?"),
        ([{"role": "system", "content": " "}, *CHAT[3:]], "Which is the largest planet?"),
        (
            [{"from": "human", "value": "Which is the largest planet?"}, {"from": "gpt", "value": "Jupiter"}],
            "Which is the largest planet?",
        ),
        (
            [
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "Which is the "}, {"type": "text", "text": "largest planet?"}],
                },
                {"role": "assistant", "content": None, "tool_calls": []},
                {"role": "assistant", "content": "Jupiter"},
            ],
            "Which is the largest planet?",
        ),
    ],
    ids=["chat", "with a tool", "blank system message", "ShareGPT", "parts"],
)
def test_a_chats_last_question_is_asked_after_its_system_message(turns: list[object], question: str) -> None:
    row = ColumnMap({"messages": "turns", "id": "key"}).apply({"turns": turns, "key": "1", "question": "another"})
    found = question_from_row(row, task=Task.OPEN_ENDED)
    assert found == OpenQuestion("1", question, ("Jupiter",))


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


@pytest.mark.parametrize("written", [repr(CHAT), json.dumps(CHAT), "[" + "\n ".join(map(repr, CHAT)) + "]"])
def test_a_chat_that_is_written_as_text_is_the_same_chat(written: str) -> None:
    columns = ColumnMap({"messages": "turns"})
    assert columns.apply({"turns": written}) == columns.apply({"turns": CHAT})
    with pytest.raises(RowInvalid, match="must be a list of messages"):
        columns.apply({"turns": written[:-1]})
    with pytest.raises(RowInvalid, match="cannot be read as one"):
        columns.apply({"turns": "['Why?', 'so'"})


@pytest.mark.parametrize(("user", "assistant"), [("human", "gpt"), ("User", "Assistant"), ("user", "model")])
def test_other_names_of_roles_are_known(user: str, assistant: str) -> None:
    turns = [{"role": user, "content": "Why?"}, {"role": assistant, "content": "so"}]
    assert ColumnMap({"messages": "turns"}).apply({"turns": turns}) == {"question": "Why?", "answer": "so"}


def test_turns_before_the_last_question_are_known() -> None:
    columns = ColumnMap({"messages": "turns"})
    assert columns.earlier_turns({"turns": CHAT})
    assert columns.earlier_turns({"turns": json.dumps(CHAT)})
    assert columns.earlier_turns({"turns": [{"role": "User", "content": "A long text."}, *CHAT[3:]]})
    assert not columns.earlier_turns({"turns": [CHAT[0], *CHAT[3:]]})
    assert not columns.earlier_turns({"turns": "Why?"})
    assert not NO_MAP.earlier_turns({"messages": CHAT})


@pytest.mark.parametrize(
    ("columns", "field", "own"),
    [
        ({}, "answers[0]", "answers[0]"),
        ({"answers": "completion"}, "answers[0]", "completion[0]"),
        ({"answer": "gold"}, "answers", "gold"),
        ({"question": "prompt"}, "answers", "answers"),
        ({"choices": "options"}, "choices.label", "options.label"),
        ({"choices": ["A", "B"]}, "choices[1]", "A,B[1]"),
        ({"messages": "turns"}, "question", "turns"),
        ({"messages": "turns"}, "category", "category"),
        ({}, "[0]", "[0]"),
    ],
)
def test_errors_name_the_files_own_columns(columns: Paths, field: str, own: str) -> None:
    assert ColumnMap(columns).own_name(field) == own


def test_mapped_columns_that_lead_nowhere_are_known() -> None:
    columns = ColumnMap({"question": "data.q", "answers": "gold", "id": "a.b"})
    assert columns.absent(["data", "a.b"]) == ["gold"]
    assert NO_MAP.absent([]) == []


def test_the_columns_that_are_read_are_known() -> None:
    columns = ["question", "answer", "options", "A", "B", "note", "meta"]
    choices = option_columns(("A", "B"))
    assert NO_MAP.read(columns) == {"question", "answer"}
    assert NO_MAP.read(columns, options=choices) == {"question", "answer"}
    assert NO_MAP.read(columns, reads_options=True) == {"question", "answer", "options"}
    assert NO_MAP.read(["question", "A", "B"], reads_options=True, options=choices) == {"question", "A", "B"}
    assert NO_MAP.read(["question", "choices", "A", "B"], reads_options=True, options=choices) >= {"A", "B"}
    assert NO_MAP.read(["question", "A"], reads_options=True) == {"question"}
    mapped = ColumnMap({"answers": "meta.gold", "choices": ["A", "B"]})
    assert mapped.read(columns, reads_options=True, options=choices) == {"question", "meta", "A", "B"}


def test_a_column_for_each_option_is_read_where_there_is_no_list() -> None:
    choices = option_columns(("A", "B"))
    row = {"question": "q", "A": "x", "B": "y"}
    assert NO_MAP.apply(row, options=choices)["choices"] == ["x", "y"]
    assert NO_MAP.apply({**row, "options": ["p", "q"]}, options=choices)["choices"] == ["p", "q"]
    assert "choices" not in NO_MAP.apply({"question": "q"}, options=choices)


@pytest.mark.parametrize(
    "columns",
    [
        {"question": ["a", "b"]},
        {"choices": []},
        {"choices": ["A", "B", "A"]},
        {"prompt": "x"},
        {"messages": "m", "question": "q"},
        {"messages": "m", "answer": "a"},
    ],
)
def test_a_map_that_means_nothing_is_refused(columns: Paths) -> None:
    with pytest.raises(RequestInvalid) as caught:
        ColumnMap(columns)
    assert (caught.value.param, bool(caught.value.hint)) == ("columns", True)
