"""Uploads become immutable datasets named by what they hold; what is wrong is listed and leaves nothing behind."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from craft.contracts.services.datasets import DatasetStored, Reading
from craft.contracts.stages.rows import QUESTIONS_FILE, QuestionRow
from craft.core.questions import Task
from craft.errors import DatasetInvalid
from craft.infra.storage.artifacts import FolderStore, read_rows
from craft_datasets.intake import DatasetIntake
from craft_datasets.reading.reading_child import ReadingOrder, read

ROWS = [
    {"id": "a", "question": "Which is the largest planet?", "answers": ["Jupiter"], "category": "astronomy"},
    {"id": "b", "question": "水的化学式是什么?", "answers": ["H2O", "H₂O"]},
]


def stored(intake: DatasetIntake, folder: Path, content: bytes, task: Task = Task.OPEN_ENDED) -> DatasetStored:
    path = folder / "upload"
    path.write_bytes(content)
    return intake.store_file(path, Reading(task=task))


def jsonl(rows: Sequence[Mapping[str, object]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def leftovers(folder: Path) -> list[Path]:
    return [*(folder / "store" / "tmp").iterdir(), *(folder / "store" / "artifacts").iterdir()]


def test_a_stored_dataset_is_read_back_with_its_statistics(
    intake: DatasetIntake, store: FolderStore, tmp_path: Path
) -> None:
    found = stored(intake, tmp_path, jsonl(ROWS))
    questions = list(read_rows(store.open(found.ref) / QUESTIONS_FILE, QuestionRow))
    assert [row.question for row in questions] == [row["question"] for row in ROWS]
    assert found.statistics.model_dump() == {
        "rows": 2,
        "categories": {"astronomy": 1, "": 1},
        "category_count": 2,
        "duplicate_questions": 0,
        "duplicate_questions_normalised": 0,
        "answers_per_question": 1.5,
        "longest_question_characters": 28,
        "question_characters": {"min": 9, "median": 9, "p95": 28, "max": 28},
        "answer_characters": {"min": 3, "median": 3, "p95": 7, "max": 7},
        "answers": {"min": 1, "median": 1, "p95": 2, "max": 2},
    }


def test_the_same_questions_are_the_same_dataset_in_any_format(intake: DatasetIntake, tmp_path: Path) -> None:
    as_json = json.dumps(ROWS, ensure_ascii=False).encode()
    assert stored(intake, tmp_path, jsonl(ROWS)).ref == stored(intake, tmp_path, as_json).ref
    assert stored(intake, tmp_path, jsonl(ROWS)).ref != stored(intake, tmp_path, jsonl(ROWS[:1])).ref


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"question": " ", "answers": ["x"]}, "question"),
        ({"question": "q"}, "answers"),
        ({"question": "q", "answers": []}, "answers"),
        ({"question": "q", "answers": ["", "x"]}, "answers[0]"),
        ({"question": "q", "answers": ["a\u0000b"]}, "answers[0]"),
        ({"question": 3, "answers": ["x"]}, "question"),
        ({"id": "a", "question": "another", "answers": ["x"]}, "id"),
    ],
)
def test_a_wrong_row_is_named_by_line_and_field(
    intake: DatasetIntake, tmp_path: Path, row: dict[str, object], field: str
) -> None:
    with pytest.raises(DatasetInvalid) as caught:
        stored(intake, tmp_path, jsonl([*ROWS, row]))
    (detail,) = caught.value.details
    assert (detail.line, detail.field) == (3, field)
    assert leftovers(tmp_path) == []


def test_at_most_a_hundred_errors_are_listed_but_all_are_counted(intake: DatasetIntake, tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="250 of 252 rows") as caught:
        stored(intake, tmp_path, jsonl([*ROWS, *[{"question": f"q{n}"} for n in range(250)]]))
    assert len(caught.value.details) == 100


@pytest.mark.parametrize("content", [b"", b"[]", b"\n\n", b"question,answer\n"])
def test_an_empty_dataset_is_refused(intake: DatasetIntake, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DatasetInvalid):
        stored(intake, tmp_path, content)
    assert leftovers(tmp_path) == []


def test_more_rows_than_allowed_are_refused(intake: DatasetIntake, tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="more than 1,000 rows"):
        stored(intake, tmp_path, jsonl([{"question": f"q{n}", "answer": "x"} for n in range(1001)]))


def test_multiple_choice_takes_2_to_26_choices(intake: DatasetIntake, tmp_path: Path) -> None:
    def row(count: int) -> list[dict[str, object]]:
        return [{"question": "q", "choices": [f"c{n}" for n in range(count)], "answer": "A"}]

    assert stored(intake, tmp_path, jsonl(row(26)), Task.MULTIPLE_CHOICE).rows == 1
    for count in (1, 27):
        with pytest.raises(DatasetInvalid):
            stored(intake, tmp_path, jsonl(row(count)), Task.MULTIPLE_CHOICE)


def test_a_parquet_bomb_ends_its_own_process_only(intake: DatasetIntake, tmp_path: Path) -> None:
    # 12 MB on disk at most, some 4 GB when decoded: one long text repeated by the dictionary encoding.
    path = tmp_path / "bomb"
    text = pa.array(["x" * 4_000_000]).dictionary_encode()
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1000), text.dictionary)
    pq.write_table(pa.table({"question": column, "answer": column}), path)
    assert path.stat().st_size < 12_000_000
    with pytest.raises(DatasetInvalid):
        intake.store_file(path, Reading())
    assert leftovers(tmp_path) == []


def test_a_files_name_makes_no_difference_over_http(http: TestClient) -> None:
    answers = [
        http.post("/v1/datasets", files={"file": (name, jsonl(ROWS))}, data={"task": "open_ended"})
        for name in ("../../etc/passwd", "rows.csv")
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["ref"] == answers[1].json()["ref"]


def test_row_errors_travel_as_a_problem_document(http: TestClient) -> None:
    answer = http.post("/v1/datasets", files={"file": ("rows", jsonl([*ROWS, {"question": "q"}]))})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    problem = answer.json()
    assert (problem["code"], problem["fault"], problem["errors"][0]["line"]) == ("dataset_invalid", "user", 3)
    assert problem["hint"]


def test_select_puts_every_id_into_one_list(http: TestClient) -> None:
    states = [
        {"id": "known", "correctness": 1.0, "certainty": 0.9, "flow": {"correctness": 0.0, "certainty": 0.0}},
        {"id": "unknown", "correctness": 0.0, "certainty": 0.2, "flow": {"correctness": 0.0, "certainty": 0.0}},
        {"id": "improving", "correctness": 0.2, "certainty": 0.1, "flow": {"correctness": 0.3, "certainty": 0.0}},
    ]
    body = {"strategy": "craft", "rule": {"tau": 0.5, "n_van": 1, "n_idk": 1, "seed": 7}, "states": states}
    answer = http.post("/v1/select", json=body)
    assert answer.json() == {
        "van": ["known"],
        "idk": ["unknown"],
        "dropped": [{"id": "improving", "reason": "dynamic_conflict"}],
    }
    unknown = http.post("/v1/select", json={**body, "strategy": "magic"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "request_invalid")


def test_a_full_disk_is_not_the_files_fault(tmp_path: Path) -> None:
    source = tmp_path / "upload"
    source.write_bytes(jsonl(ROWS))
    order = ReadingOrder(
        source=source,
        reading=Reading(),
        questions=Path("/dev/full"),
        question_hashes=tmp_path / "hashes",
        max_rows=10,
        max_line_bytes=1000,
        memory_bytes=2**30,
        cpu_seconds=10,
        parent=os.getpid(),
    )
    error = read(order).error
    assert error is not None
    assert (error.code, error.retryable) == ("disk_full", True)
