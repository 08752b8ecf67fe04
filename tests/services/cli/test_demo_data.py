"""The demo dataset is well formed, as the demo's numbers require."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import craft_cli
from craft.core.judging.text import contains, normalise
from craft.core.questions import ChoiceQuestion, OpenQuestion, Task
from craft.core.rows.reader import question_from_row

DATA = Path(craft_cli.__file__).parent / "data"
FILES = {Task.OPEN_ENDED: DATA / "open_ended.jsonl", Task.MULTIPLE_CHOICE: DATA / "multiple_choice.jsonl"}
MEMBERS = {
    Task.OPEN_ENDED: {"id", "question", "answers", "category"},
    Task.MULTIPLE_CHOICE: {"id", "question", "choices", "answer", "category"},
}
ROWS_AT_LEAST = {Task.OPEN_ENDED: 1_600, Task.MULTIPLE_CHOICE: 600}


def rows(task: Task) -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILES[task].read_text(encoding="utf-8").splitlines()]


def open_questions() -> list[OpenQuestion]:
    questions = [question_from_row(row, task=Task.OPEN_ENDED) for row in rows(Task.OPEN_ENDED)]
    return [question for question in questions if isinstance(question, OpenQuestion)]


def choice_questions() -> list[ChoiceQuestion]:
    questions = [question_from_row(row, task=Task.MULTIPLE_CHOICE) for row in rows(Task.MULTIPLE_CHOICE)]
    return [question for question in questions if isinstance(question, ChoiceQuestion)]


@pytest.mark.parametrize("task", Task)
def test_every_row_is_a_question_with_exactly_the_documented_members(task: Task) -> None:
    for row in rows(task):
        assert set(row) == MEMBERS[task], row["id"]
        assert question_from_row(row, task=task).id == row["id"]


@pytest.mark.parametrize("task", Task)
def test_ids_and_questions_are_unique_and_many_enough(task: Task) -> None:
    all_rows = rows(task)
    assert len(all_rows) >= ROWS_AT_LEAST[task]
    assert len({row["id"] for row in all_rows}) == len(all_rows)
    assert len({normalise(row["question"]) for row in all_rows}) == len(all_rows)


@pytest.mark.parametrize("task", Task)
def test_text_is_clean_and_lines_end_once(task: Task) -> None:
    text = FILES[task].read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert not text.startswith("\ufeff")
    assert "\r" not in text
    for row in rows(task):
        texts = [row["question"], row["category"], *row.get("answers", []), *row.get("choices", [])]
        assert all(text == text.strip() and text.isprintable() and "  " not in text for text in texts), row["id"]
        assert row["question"].endswith("?"), row["id"]


@pytest.mark.parametrize("task", Task)
def test_no_category_dominates(task: Task) -> None:
    counts = Counter(row["category"] for row in rows(task))
    assert len(counts) >= 8
    assert max(counts.values()) <= 0.2 * counts.total()
    assert min(counts.values()) >= 20


@pytest.mark.parametrize("task", Task)
def test_a_prefix_of_the_file_has_every_category_in_proportion(task: Task) -> None:
    """The demo may use only the first rows, which in a file sorted by category would be about one topic."""
    categories = [row["category"] for row in rows(task)]
    whole, half = Counter(categories), Counter(categories[: len(categories) // 2])
    for category, count in whole.items():
        assert 0.25 * count <= half[category] <= 0.75 * count, category


def test_no_answer_is_part_of_its_own_question() -> None:
    """A reply that echoes the question must not count as right."""
    for question in open_questions():
        text = normalise(question.question)
        leaks = [answer for answer in question.answers if contains(text, normalise(answer))]
        assert not leaks, (question.id, leaks)


def test_aliases_differ_after_normalising() -> None:
    for question in open_questions():
        aliases = [normalise(answer) for answer in question.answers]
        assert all(aliases), question.id
        assert len(set(aliases)) == len(aliases), question.id


# Matching ignores case, so these would be found in replies with another meaning.
COMMON_WORDS = set(re.findall(r"\w+", "i as at in is it no on or he be we my so of to not dont know"))


def test_no_answer_is_a_word_of_ordinary_sentences() -> None:
    for question in open_questions():
        assert not COMMON_WORDS & {normalise(answer) for answer in question.answers}, question.id


def test_options_are_three_to_five_distinct_texts_of_which_four_is_usual() -> None:
    questions = choice_questions()
    sizes = Counter(len(question.choices) for question in questions)
    assert set(sizes) == {3, 4, 5}
    assert sizes[4] >= 0.7 * len(questions)
    for question in questions:
        assert len(set(map(str.casefold, question.choices))) == len(question.choices), question.id


def test_the_right_letter_is_spread_evenly() -> None:
    """Replying always with one letter must hardly be better than chance."""
    four = Counter(question.answer_letter for question in choice_questions() if len(question.choices) == 4)
    assert set(four) == set("ABCD")
    assert max(four.values()) - min(four.values()) <= 2


def test_the_files_stay_small_enough_for_the_package() -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir() if path.is_file()) < 600_000
