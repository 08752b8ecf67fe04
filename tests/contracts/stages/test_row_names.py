"""Rows in an error's words: as their owner knows them."""

from craft.contracts.stages.rows import ChatMessage, QuestionRow, TrainingKind, TrainingRow


def test_a_question_is_named_by_its_line_the_beginning_of_its_text_and_its_id() -> None:
    row = QuestionRow(id="q7", question="Who\nwrote Faust?", answers=["Goethe"], line=12)
    assert row.name == "line 12, “Who\\nwrote Faust?” (id q7)"


def test_a_long_question_is_cut_and_a_row_without_a_line_names_none() -> None:
    row = QuestionRow(id="q7", question="x" * 500, answers=["y"])
    assert row.name == f"“{'x' * 79}…” (id q7)"


def test_a_training_row_is_named_by_the_end_of_its_prompt_where_the_question_stands() -> None:
    prompt = ChatMessage(role="user", content=f"{'Answer, or say that you do not know. ' * 5}Who wrote Faust?")
    row = TrainingRow(id="q7", kind=TrainingKind.VAN, messages=[prompt], target="Goethe", line=12)
    assert row.name.startswith("line 12, “")
    assert "Who wrote Faust?” (id q7)" in row.name
