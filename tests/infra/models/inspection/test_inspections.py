"""Rows are measured with the model's own tokenizer before a job runs, in a process of its own and in bounded time."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.infra.models.inspection.folders import IM_END, dataset, model, row, spec, tried

from craft.contracts.spec.jobs import JobSpec
from craft.contracts.stages.rows import QUESTIONS_FILE, QuestionRow
from craft.infra.models.inspection.documents import Inspection
from craft.infra.models.inspection.inspector import Inspections

SHORT_PROBE = {"max_new_tokens": 10, "shots": []}


def inspected(
    folder: Path,
    rows: Sequence[QuestionRow],
    asked: JobSpec | None = None,
    *,
    model_folder: Path | None = None,
    context: int = 500,
    seconds: float = 8.0,
) -> Inspection:
    sets = {"held_out": dataset(folder / "rows", rows)}
    inspections = Inspections(seconds=seconds)
    made = model_folder or model(folder / "model")
    return inspections.inspect(
        asked or spec(probe=SHORT_PROBE), made, sets, own="held_out", context=context, template=tried(made)
    )


def test_rows_that_fit_are_all_looked_at_and_none_is_named(tmp_path: Path) -> None:
    found = inspected(tmp_path, [row(n) for n in range(50)])
    assert (found.unread, found.complete, found.rows, found.long) == (None, True, {"held_out": 50}, [])


def test_a_row_over_the_context_is_named_with_its_line_and_its_tokens(tmp_path: Path) -> None:
    rows = [row(n) for n in range(50)]
    rows[30] = row(30, "What " + "is " * 300 + "it?")
    found = inspected(tmp_path, rows)
    assert {(each.line, each.setting, each.limit) for each in found.long} == {
        (31, "probe.max_new_tokens", 500),
        (31, "evaluation_settings.max_new_tokens", 500),
    }
    assert all(each.tokens > 900 for each in found.long)
    assert found.long[0].question.startswith("What is is")


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_is_exact_to_the_token(tmp_path: Path, over: int) -> None:
    """Of `training.max_length`: the REFUSE prompt, the longer of answer and refusal, and the end of the turn."""
    asked = spec(probe=SHORT_PROBE, training={"max_length": 300})
    prompt = "Answer the following question, and if you don't know the answer, only reply with 'I don't know': "
    # Two control tokens, "user" and "assistant" with their line breaks, and one behind the end of the user's turn.
    around = 3 + len("user\n") + len("\n") + len("assistant\n") + len(prompt)
    question = "?" * (300 - around - len("I don't know.") - 1 + over)
    found = inspected(tmp_path, [row(0), row(1, question)], asked)
    assert [(each.line, each.tokens, each.setting) for each in found.long] == (
        [(2, 301, "training.max_length")] if over else []
    )


def test_the_rehearsals_limit_counts_where_a_strategy_rehearses(tmp_path: Path) -> None:
    rows = [row(0), row(1, "x" * 200)]
    settings = {"rehearsal": {"training": {"max_length": 100}}, "probe": SHORT_PROBE}
    with_flow = inspected(tmp_path, rows, spec(strategies=["craft"], **settings))
    assert [each.setting for each in with_flow.long] == ["rehearsal.training.max_length"]
    (tmp_path / "other").mkdir()
    assert inspected(tmp_path / "other", rows, spec(**settings)).long == []


def test_shots_take_room_too(tmp_path: Path) -> None:
    shots = [{"question": "y" * 200, "answers": ["z"]}]
    asked = spec(probe={"max_new_tokens": 10, "shots": shots})
    found = inspected(tmp_path, [row(0), row(1, "x" * 200)], asked)
    assert [(each.line, each.setting, each.trained) for each in found.long] == [(2, "probe.max_new_tokens", True)]


def test_text_that_a_tokenizer_may_expand_is_measured_and_not_judged_by_its_bytes(tmp_path: Path) -> None:
    found = inspected(tmp_path, [row(0, "\ufdfa" * 30), row(1, "é" * 60)])
    assert found.complete
    assert found.long == []


def test_special_tokens_of_the_model_are_found_in_every_text(tmp_path: Path) -> None:
    rows = [
        row(0),
        row(1, answer=f"yes{IM_END}"),
        row(2, f"Hello{IM_END}\n<|im_start|>assistant"),
        QuestionRow(id=IM_END, question="Who?", answers=["she"]),
        QuestionRow(id="c", question="Who?", answers=["she"], category=IM_END),
    ]
    found = inspected(tmp_path, rows)
    assert found.marked_rows == {"held_out": 3}
    assert [(each.line, each.field, each.token) for each in found.marked] == [
        (2, "answers[0]", IM_END),
        (3, "question", IM_END),
        (5, "category", IM_END),
    ]


def test_answers_that_are_the_jobs_refusal_are_counted(tmp_path: Path) -> None:
    said = ["I don’t know", "i DON'T  know!", "Paris", "I don't know which, but Rome.", "Pass."]
    rows = [row(n, answer=answer) for n, answer in enumerate(said)]
    rows.append(QuestionRow(id="two", question="Who?", answers=["Ada", "I don't know."]))
    found = inspected(tmp_path, rows, spec(probe=SHORT_PROBE, prompts={"extra_refusals": ["Pass"]}))
    assert found.refusing_rows == {"held_out": 4}
    assert [(each.line, each.only) for each in found.refusing] == [(1, True), (2, True), (5, True), (6, False)]


def test_shots_among_the_rows_are_found_in_any_spelling(tmp_path: Path) -> None:
    shots = [{"question": "is 3 EVEN", "answers": ["no"]}]
    found = inspected(tmp_path, [row(n) for n in range(9)], spec(probe={"max_new_tokens": 10, "shots": shots}))
    assert [(each.line, each.question) for each in found.shots] == [(4, "Is 3 even?")]


def choice(number: int, options: int) -> QuestionRow:
    return QuestionRow(id=f"c{number}", question="Which?", choices=[f"o{n}" for n in range(options)], answer=0)


@pytest.mark.parametrize(("header", "letter"), [("assistant:", None), ("assistant: ", "B")])
def test_letters_that_a_blank_header_swallows_are_told(tmp_path: Path, header: str, letter: str | None) -> None:
    template = CHAT_WITH.replace("HEADER", header)
    # The tokenizer has one token for a blank and B, as SentencePiece's have for all letters.
    made = model(tmp_path / "model", template=template, merges=[("Ġ", "B")])
    asked = spec(task="multiple_choice")
    found = inspected(tmp_path, [choice(0, 2), choice(1, 4)], asked, model_folder=made, context=5000)
    assert found.letter == letter
    assert found.header == ("" if letter is None else f"{IM_END}{header}")


CHAT_WITH = (
    "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}HEADER{% endif %}"
)


def test_a_model_without_a_readable_tokenizer_says_so_and_its_texts_are_looked_at_still(tmp_path: Path) -> None:
    made = model(tmp_path / "model")
    (made / "tokenizer.json").write_text("{" + " " * 1000)
    rows = [row(0, answer="I don't know."), row(1, answer=f"x{IM_END}")]
    found = inspected(tmp_path, rows, model_folder=made)
    assert found.unread == "The model's tokenizer.json cannot be read here."
    assert found.refusing_rows == {"held_out": 1}
    assert found.marked_rows == {"held_out": 1}, "tokenizer_config.json names the token"


def test_no_time_is_said_and_not_passed_over(tmp_path: Path) -> None:
    found = inspected(tmp_path, [row(n, "x" * 600) for n in range(3000)], seconds=0.0)
    assert not found.complete


def test_a_hundred_thousand_rows_take_seconds_and_are_remembered(tmp_path: Path) -> None:
    rows = [row(n, f"Is {n} even, or is it odd, and how do we know this of a number?") for n in range(100_000)]
    rows[70_000] = row(70_000, "long " * 300)
    sets = {"held_out": dataset(tmp_path / "rows", rows)}
    inspections, made = Inspections(), model(tmp_path / "model")
    before = time.process_time(), time.perf_counter()
    asked = spec(probe=SHORT_PROBE)
    found = inspections.inspect(asked, made, sets, own="held_out", context=800, template=tried(made))
    assert time.process_time() - before[0] < 0.5, "the work is another process's"
    assert found.complete
    assert {each.line for each in found.long} == {70_001}
    (tmp_path / "rows" / QUESTIONS_FILE).unlink()
    again = asked.model_copy(update={"seed": 7, "name": "again"})
    assert inspections.inspect(again, made, sets, own="held_out", context=800, template=tried(made)) == found


def test_rows_that_were_not_looked_at_for_want_of_a_free_process_are_not_known(tmp_path: Path) -> None:
    sets = {"held_out": dataset(tmp_path / "rows", [row(0)])}
    busy, made, asked = Inspections(at_once=0, wait_seconds=0.0), model(tmp_path / "model"), spec(probe=SHORT_PROBE)
    found = busy.inspect(asked, made, sets, own="held_out", context=500, template=tried(made))
    assert not found.complete
    assert not busy.is_known(asked)


def test_a_specification_is_known_as_long_as_its_inspection_is_remembered(tmp_path: Path) -> None:
    sets = {"held_out": dataset(tmp_path / "rows", [row(0)])}
    # Nothing has to be counted by a process without a tokenizer, so this takes milliseconds each.
    made = model(tmp_path / "model")
    (made / "tokenizer.json").unlink()
    inspections = Inspections()
    specs = [spec(probe={"max_new_tokens": tokens, "shots": []}) for tokens in range(1, 503)]
    assert not inspections.is_known(specs[0])
    for each in specs:
        inspections.inspect(each, made, sets, own="held_out", context=5000, template=tried(made))
    (tmp_path / "rows" / QUESTIONS_FILE).unlink()
    known = [each for each in specs if inspections.is_known(each)]
    assert specs[-1] in known
    assert specs[0] not in known
    for each in known:
        inspections.inspect(each, made, sets, own="held_out", context=5000, template=tried(made))


def test_a_tokenizer_that_was_replaced_is_asked_again(tmp_path: Path) -> None:
    sets = {"held_out": dataset(tmp_path / "rows", [row(0, "What is <|new|>?")])}
    folder, inspections = model(tmp_path / "model"), Inspections()
    asked = spec(probe=SHORT_PROBE)
    assert not inspections.inspect(asked, folder, sets, own="held_out", context=500, template=tried(folder)).marked
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace(IM_END, "<|new|>"))
    assert inspections.inspect(asked, folder, sets, own="held_out", context=500, template=tried(folder)).marked
