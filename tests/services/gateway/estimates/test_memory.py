"""The memory of a job comes from the lengths of its own rows."""

from typing import Any

from tests.services.gateway.rigs.world import resolved

from craft.contracts.documents.estimate import CheckOutcome
from craft.contracts.services.datasets import DatasetStatistics, SpreadView
from craft.core.questions import Task
from craft.core.strategies import Strategy
from craft.infra.models.shape import ModelShape
from craft_gateway.estimates.memory import RowTokens, memory, memory_check

SHAPE = ModelShape(
    matrices={"model.layers.0.self_attn.k_proj.weight": (192, 576)},
    parameters=134_515_008,
    layers=30,
    hidden=576,
    vocabulary=49_152,
    context_length=8192,
    tied=True,
)
"""About that of SmolLM2-135M."""
SHORT = RowTokens(question_max=60, question_p95=30, answer_max=12, answer_p95=6)


def needed(rows: RowTokens, **changes: Any) -> int:
    job = resolved(Strategy.COR_RAIT)
    spec = job.spec.model_copy(update={"training": job.spec.training.model_copy(update=changes)})
    return memory(job.model_copy(update={"spec": spec}), SHAPE, rows).training_bytes


def statistics(question: tuple[int, int], answer: tuple[int, int]) -> DatasetStatistics:
    spreads = [SpreadView(min=1, median=1, p95=p95, max=most) for p95, most in (question, answer)]
    return DatasetStatistics(
        rows=9,
        categories={},
        category_count=1,
        duplicate_questions=0,
        duplicate_questions_normalised=0,
        answers_per_question=1.0,
        longest_question_characters=question[1],
        question_characters=spreads[0],
        answer_characters=spreads[1],
        answers=SpreadView(min=1, median=1, p95=1, max=1),
    )


def test_short_rows_need_a_part_of_what_long_ones_need() -> None:
    assert needed(SHORT) < 0.8 * needed(RowTokens())
    assert needed(SHORT, batch_size=4) < 0.5 * needed(SHORT, batch_size=16)


def test_one_long_row_is_not_taken_for_a_batch_of_such_rows() -> None:
    one_long = RowTokens(question_max=600, question_p95=30, answer_max=12, answer_p95=6)
    all_long = RowTokens(question_max=600, question_p95=600, answer_max=12, answer_p95=6)
    assert needed(SHORT) <= needed(one_long) < needed(all_long)


def test_a_row_is_not_longer_than_training_lets_it_be() -> None:
    endless = RowTokens(question_max=10**6, question_p95=10**6, answer_max=10**6, answer_p95=10**6)
    assert needed(endless, max_length=64) == needed(RowTokens(), max_length=64)


def test_the_models_own_replies_may_be_longer_than_the_datasets_answers() -> None:
    job = resolved()
    longer = job.spec.model_copy(update={"probe": job.spec.probe.model_copy(update={"max_new_tokens": 500})})
    short, long = (memory(each, SHAPE, SHORT).row_tokens for each in (job, job.model_copy(update={"spec": longer})))
    assert long - short == 500 - job.spec.probe.max_new_tokens
    letters = job.spec.model_copy(update={"task": Task.MULTIPLE_CHOICE})
    assert memory(job.model_copy(update={"spec": letters}), SHAPE, SHORT).row_tokens < short


def test_lengths_are_those_of_the_longest_dataset() -> None:
    rows = RowTokens.of([statistics((40, 80), (6, 9)), statistics((20, 300), (10, 200))])
    assert rows == RowTokens(question_max=150, question_p95=20, answer_max=100, answer_p95=5)
    assert RowTokens.of([]) == RowTokens()


def test_the_check_passes_where_the_training_device_is_known_to_be_large_enough() -> None:
    found = memory(resolved(), SHAPE, SHORT)
    outcomes = [
        memory_check(found, device_bytes=size).outcome
        for size in (None, found.training_bytes - 1, found.training_bytes)
    ]
    assert outcomes == [CheckOutcome.UNKNOWN, CheckOutcome.UNKNOWN, CheckOutcome.PASSED]
