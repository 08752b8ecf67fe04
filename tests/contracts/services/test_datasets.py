"""How a dataset is to be read, as a request says it."""

import pytest
from pydantic import ValidationError

from craft.contracts.problems import Problem
from craft.contracts.services.datasets import Reading, columns_of
from craft.contracts.spec.dataset_sources import HubSource
from craft.core.questions import Task
from craft.errors import DatasetInvalid, RequestInvalid


def test_columns_come_as_json_in_a_form() -> None:
    assert columns_of('{"question": "prompt"}') == {"question": "prompt"}
    assert Reading(columns=columns_of("{}")).column_map.paths == {}


@pytest.mark.parametrize("text", ["", "prompt", "[]", '{"question": 1}', '{"question": ""}', '{"prompt": "question"}'])
def test_columns_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(RequestInvalid) as caught:
        columns_of(text)
    assert (caught.value.param, bool(caught.value.hint)) == ("columns", True)


def test_a_chat_is_not_mapped_beside_its_question() -> None:
    with pytest.raises(ValidationError, match="maps both"):
        Reading(columns={"messages": "m", "question": "q"})


def test_a_path_in_a_repository_stays_there() -> None:
    assert HubSource(kind="hub", repo="a/b", file="data/..train").file == "data/..train"
    with pytest.raises(ValidationError):
        HubSource(kind="hub", repo="a/b", file="data/../../x")


def test_counts_by_kind_travel_with_the_problem() -> None:
    error = DatasetInvalid("2 of 3 rows cannot be used.", error_counts={"`question` is missing.": 2})
    assert Problem.of(error).error_counts == {"`question` is missing.": 2}
    assert Problem.of(RequestInvalid("no")).error_counts == {}


def test_rows_that_were_read_without_a_task_are_open_ended() -> None:
    assert Reading().stored_task is Task.OPEN_ENDED
    assert Reading(task=Task.MULTIPLE_CHOICE).stored_task is Task.MULTIPLE_CHOICE
