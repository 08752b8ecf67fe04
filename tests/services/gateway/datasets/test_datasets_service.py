"""Datasets through both services: mapped columns, sources, what is shown of them, and their end."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.services.datasets.sources.source_servers import COMMIT, ROWS, body, hub, source, status
from tests.services.gateway.rigs.dataset_rig import MAX_BYTES, DatasetRig, dataset_rig
from tests.services.gateway.rigs.public_rig import MODEL, UNKNOWN_DATASET
from tests.tiny_model import CHAT_TEMPLATE

from craft.contracts.public.accounts import TeamSettings
from craft.errors import RequestInvalid
from craft.infra.settings.coordinator import RetentionSettings
from craft_gateway.retention.collector import GarbageCollector
from craft_gateway.retention.store import ArtifactFolders

ASKED = [{"id": f"q{n}", "question": f"What is {n} plus {n}?", "answers": [str(2 * n)]} for n in range(200)]


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[DatasetRig]:
    with dataset_rig(tmp_path) as made:
        yield made


# The task.

LETTERED = {"question": "Which is a city?", "choices": ["Oslo", "Blue"], "answer": "A"}


def _fetched(both: DatasetRig, row: dict[str, Any], task: dict[str, str]) -> httpx.Response:
    with source(hub(jsonl([row]))) as server:
        both.hub.url = server.url
        return both.send(source={"kind": "hub", "repo": "team/facts", "file": "data/train.jsonl"}, **task)


WAYS: dict[str, Callable[[DatasetRig, dict[str, Any], dict[str, str]], httpx.Response]] = {
    "file": lambda both, row, task: both.upload(jsonl([row]), **task),
    "rows": lambda both, row, task: both.send(rows=[row], **task),
    "source": _fetched,
    "columns": lambda both, row, task: both.send(
        rows=[{"q": row["question"], "options": row["choices"], "gold": row["answer"]}],
        columns={"question": "q", "choices": "options", "answer": "gold"},
        **task,
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_choices_without_a_task_are_asked_about(both: DatasetRig, way: str) -> None:
    answer = WAYS[way](both, LETTERED, {})
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["param"]) == (422, "dataset_invalid", "task")
    assert problem["hint"].startswith("Send task=multiple_choice, or task=open_ended to ignore the choices.")
    assert '{"choices": ["A", "B", "C", "D"]}' in problem["hint"]
    assert both.rig.get("/craft/datasets").json()["data"] == []


@pytest.mark.parametrize("task", ["open_ended", "multiple_choice"])
@pytest.mark.parametrize("way", WAYS)
def test_a_task_that_was_said_is_taken_with_or_without_the_choices(both: DatasetRig, way: str, task: str) -> None:
    made = WAYS[way](both, LETTERED, {"task": task}).json()
    [row] = both.rig.get(made["links"]["preview"]).json()["rows"]
    assert made["task"] == task
    assert row["choices"] == (LETTERED["choices"] if task == "multiple_choice" else None)


def test_rows_without_choices_need_no_task(both: DatasetRig) -> None:
    without = {"question": "Which is a city?", "answer": "Oslo", "choices": None}
    assert both.uploaded(jsonl([without]))["task"] == "open_ended"
    assert both.uploaded(jsonl([{**without, "choices": []}]))["task"] == "open_ended"


# Columns.


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        (b"prompt,completion\nWhy?,because|so\n", {"question": "prompt", "answers": "completion"}),
        (b'[{"data": {"q": "Why?"}, "gold": ["because", "so"]}]', {"question": "data.q", "answers": "gold"}),
    ],
)
def test_mapped_columns_give_the_same_dataset_as_our_own(
    both: DatasetRig, content: bytes, columns: dict[str, str]
) -> None:
    plain = both.uploaded(b'{"question": "Why?", "answers": ["because", "so"]}')
    mapped = both.uploaded(content, columns=json.dumps(columns))
    assert mapped["id"] == plain["id"]
    inline = both.send(rows=[{"p": "Who?", "a": "me"}], columns={"question": "p", "answer": "a"}).json()
    assert (inline["columns"], inline["rows"], inline["source"]) == ({"question": "p", "answer": "a"}, 1, None)


def test_chats_become_questions(both: DatasetRig) -> None:
    chat = {"turns": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "because"}]}
    made = both.uploaded(jsonl([chat]), columns='{"messages": "turns"}')
    shown = both.rig.get(made["links"]["preview"]).json()["rows"]
    assert [(row["question"], row["answers"]) for row in shown] == [("Why?", ["because"])]


@pytest.mark.parametrize(
    ("content", "columns", "said", "hint"),
    [
        (b'{"prompt": "Why?", "gold": "x"}', {"question": "promt"}, "no column `promt`", "`prompt`, `gold`"),
        (b"prompt,gold\nWhy?,x\n", {"question": "promt"}, "no column `promt`; it has prompt, gold", "columns"),
        (
            b'{"prompt": "Why?", "gold": "x"}',
            {},
            "1 of 1 rows",
            "`prompt`, `gold`, and no `question`: say with `columns`",
        ),
        (b'{"messages": []}', {}, "1 of 1 rows", '{"messages": "messages"}'),
    ],
)
def test_columns_that_are_not_there_are_named_beside_those_that_are(
    both: DatasetRig, content: bytes, columns: dict[str, str], said: str, hint: str
) -> None:
    answer = both.upload(content, columns=json.dumps(columns))
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_invalid")
    assert said in answer.json()["detail"]
    assert hint in answer.json()["hint"]


def test_row_errors_name_the_files_columns_and_are_counted_by_kind(both: DatasetRig) -> None:
    good, empty, blank = ({"prompt": p, "gold": g} for p, g in (("Who?", "me"), ("Why?", []), (" ", ["x"])))
    rows: list[dict[str, Any]] = [*[empty] * 150, *[blank] * 3, good]
    mapping = {"question": "prompt", "answers": "gold"}
    for answer in (both.upload(jsonl(rows), columns=json.dumps(mapping)), both.send(rows=rows, columns=mapping)):
        problem = answer.json()
        assert (answer.status_code, len(problem["errors"])) == (422, 100)
        assert problem["error_counts"] == {"`gold` is an empty list.": 150, "`prompt` is empty.": 3}
        assert (problem["errors"][0]["field"], problem["errors"][0]["line"]) == ("gold", 1)


@pytest.mark.parametrize("columns", ["{", "[]", '{"prompt": "question"}', '{"messages": "m", "answer": "a"}'])
def test_a_map_that_means_nothing_is_refused_before_the_file_is_read(both: DatasetRig, columns: str) -> None:
    answer = both.upload(ROWS, columns=columns)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert both.rig.get("/craft/datasets").json()["data"] == []


def test_the_bytes_decide_whatever_the_request_says(both: DatasetRig) -> None:
    made = both.uploaded(ROWS, name="facts.parquet", format="csv")
    assert made["rows"] == 2
    answer = both.upload(b"\x1f\x8b\x08\x00", name="facts.jsonl", format="jsonl")
    assert (answer.status_code, "gzip" in answer.json()["detail"]) == (422, True)


# Sources.


def test_a_hub_file_becomes_a_dataset_that_knows_its_commit(both: DatasetRig) -> None:
    wanted = {"kind": "hub", "repo": "team/facts", "file": "data/train.jsonl"}
    with source(hub(ROWS)) as server:
        both.hub.url = server.url
        answer = both.send(source=wanted, name="facts")
        again = both.send(source=wanted)
    made = answer.json()
    assert (answer.status_code, made["rows"], made["name"]) == (201, 2, "facts")
    assert made["source"]["revision"] == COMMIT
    assert made["source"]["uri"] == "hf://datasets/team/facts@main/data/train.jsonl"
    assert again.json() == made == both.rig.get(f"/craft/datasets/{made['id']}").json()
    (entry,) = both.rig.get("/craft/audit", params={"subject": made["id"]}).json()["data"]
    assert entry["data"]["source"] == made["source"]["uri"]


def test_a_source_with_columns_of_its_own_is_mapped(both: DatasetRig) -> None:
    with source(hub(ROWS)) as server:
        both.hub.url = server.url
        named = {"kind": "hub", "repo": "team/facts", "file": "small.csv"}
        made = both.send(source=named, columns={"question": "prompt", "answers": "completion"}).json()
    assert (made["rows"], made["columns"]["question"]) == (1, "prompt")


@pytest.mark.parametrize(
    ("path", "code", "status_code"),
    [
        ("/private", "request_invalid", 422),
        ("/none", "request_invalid", 422),
        ("/busy", "unavailable", 503),
        ("/large", "payload_too_large", 413),
        ("/page", "dataset_invalid", 422),
        ("/wrong", "dataset_invalid", 422),
    ],
)
def test_a_source_that_cannot_be_used_is_a_problem_that_says_so(
    both: DatasetRig, path: str, code: str, status_code: int
) -> None:
    answers = {
        "/private": status(302, Location="https://192.168.0.1/"),
        "/busy": status(500),
        "/large": body(b"", said=MAX_BYTES + 1),
        "/page": body(b"<!doctype html><title>Sign in</title>"),
        "/wrong": body(b'{"question": "Why?"}'),
    }
    with source(answers) as server:
        answer = both.send(source={"kind": "https", "url": f"{server.url}{path}"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status_code, code)
    assert problem["hint"]
    assert both.rig.get("/craft/datasets").json()["data"] == []


def test_a_source_holds_no_credentials(both: DatasetRig) -> None:
    named = {"kind": "s3", "uri": "s3://team-data/x", "secret_access_key": "mine"}
    answer = both.send(source=named)
    assert (answer.status_code, "mine" in answer.json()["detail"]) == (422, False)


# What is shown.


def test_one_row_is_a_dataset_with_statistics(both: DatasetRig) -> None:
    made = both.uploaded('{"question": "Où?", "answers": ["là", "ici"]}'.encode(), name="Fragen-東京-🧪.jsonl")
    assert made["name"] == "Fragen-東京-🧪.jsonl"
    assert made["statistics"]["question_characters"] == {"min": 3, "median": 3, "p95": 3, "max": 3}
    assert made["statistics"]["answers"] == {"min": 2, "median": 2, "p95": 2, "max": 2}


def test_duplicates_are_counted_exactly_and_normalised(both: DatasetRig) -> None:
    texts = ["Why?", "Why?", "why", "Who?"]
    made = both.uploaded(jsonl([{"id": str(n), "question": t, "answer": "x"} for n, t in enumerate(texts)]))
    found = made["statistics"]
    assert (found["duplicate_questions"], found["duplicate_questions_normalised"]) == (1, 2)


def test_a_preview_shows_rows_and_the_prompts_that_come_of_them(both: DatasetRig) -> None:
    made = both.uploaded(jsonl(ASKED))
    shown = both.rig.get(made["links"]["preview"], params={"limit": 2}).json()
    assert [row["id"] for row in shown["rows"]] == ["q0", "q1"]
    (first, _) = shown["prompts"]
    assert [turn["role"] for turn in first["probe"]] == ["user", "assistant"] * 3 + ["user"]
    assert first["probe"][-1]["content"].endswith("Question: What is 0 plus 0?\nAnswer:")
    assert [turn["content"] for turn in first["training"]] == [
        "Answer the following question, and if you don't know the answer, only reply with 'I don't know': "
        "What is 0 plus 0?"
    ]
    assert (first["answer"], first["refusal"], first["rendered"]) == ("0", "I don't know.", None)


def test_a_preview_renders_with_a_models_own_template(both: DatasetRig) -> None:
    folder = both.rig.models / MODEL
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHAT_TEMPLATE}))
    made = both.uploaded(jsonl(ASKED))
    shown = both.rig.get(made["links"]["preview"], params={"base_model": MODEL, "limit": 1}).json()
    (first,) = shown["prompts"]
    assert first["training"][0]["content"] in first["rendered"]["training"]
    assert all(turn["content"] in first["rendered"]["probe"] for turn in first["probe"])
    assert first["rendered"]["training"] != first["training"][0]["content"]


@pytest.mark.parametrize(
    ("template", "code"), [(None, "model_unsupported"), ("{{ 1 / 0 }}", "model_unsupported")], ids=["none", "broken"]
)
def test_a_model_that_renders_nothing_is_refused(both: DatasetRig, template: str | None, code: str) -> None:
    settings = {} if template is None else {"chat_template": template}
    (both.rig.models / MODEL / "chat_template.jinja").unlink()
    (both.rig.models / MODEL / "tokenizer_config.json").write_text(json.dumps(settings))
    preview = both.uploaded(ROWS)["links"]["preview"]
    assert both.rig.get(preview, params={"base_model": MODEL}).json()["code"] == code
    assert both.rig.get(preview, params={"base_model": "no/model"}).json()["code"] == "model_not_found"


def test_an_overlap_lists_what_two_sets_share(both: DatasetRig) -> None:
    train = both.uploaded(jsonl(ASKED))["id"]
    others = [{"question": f"what is {n} plus {n}", "answer": "x"} for n in range(190, 260)]
    test = both.uploaded(jsonl(others))["id"]
    found = both.rig.get(f"/craft/datasets/{test}/overlap", params={"with": train}).json()
    assert (found["dataset"], found["with"], found["rows"]) == (test, train, 70)
    assert (found["overlapping_rows"], found["overlapping_questions"]) == (10, 10)
    assert [row["row"] for row in found["data"]] == list(range(1, 11))
    assert found["data"][0]["question"] == "what is 190 plus 190"
    back = both.rig.get(f"/craft/datasets/{train}/overlap", params={"with": train}).json()
    assert (back["overlapping_rows"], len(back["data"])) == (200, 20)


def test_another_teams_dataset_is_not_found_to_compare_with(tmp_path: Path) -> None:
    key = "an-operator-key-of-the-tests-0123456789"
    with dataset_rig(tmp_path, operator_key=key) as both:
        ids = {}
        for team in ("first", "second"):
            both.rig.teams.put(team, TeamSettings())
            headers = {"Authorization": f"Bearer {key}", "Craft-Team": team}
            ids[team] = both.rig.post("/craft/datasets", json={"rows": ASKED}, headers=headers).json()["id"]
        path, headers = f"/craft/datasets/{ids['second']}/overlap", {"Authorization": f"Bearer {key}"}
        answer = both.rig.get(path, params={"with": ids["first"]}, headers=headers)
    assert answer.status_code == 404
    assert ids["first"] != ids["second"]


# Its end.


def test_a_dataset_that_a_job_reads_stays_until_the_job_has_ended(both: DatasetRig) -> None:
    made, further = both.uploaded(jsonl(ASKED))["id"], both.uploaded(ROWS)["id"]
    evaluation = [{"dataset": further, "name": "further"}]
    job = both.rig.submit(dataset={"id": made}, evaluation=evaluation)
    for dataset_id in (made, further):
        answer = both.rig.request("DELETE", f"/craft/datasets/{dataset_id}")
        assert (answer.status_code, answer.json()["code"], job in answer.json()["detail"]) == (409, "conflict", True)
    both.rig.finish(job)
    before = both.rig.get(f"/craft/jobs/{job}").json()
    for dataset_id in (made, further):
        assert both.rig.request("DELETE", f"/craft/datasets/{dataset_id}").status_code == 204
    assert both.rig.get(f"/craft/jobs/{job}").json() == before
    assert before["resolved"]["questions"] == 200


def test_what_is_deleted_is_gone_on_record_and_can_come_back(both: DatasetRig) -> None:
    made = both.uploaded(ROWS, name="facts.jsonl")
    assert both.rig.request("DELETE", f"/craft/datasets/{made['id']}").content == b""
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/preview")):
        assert both.rig.request(method, f"/craft/datasets/{made['id']}{path}").status_code == 404
    entries = both.rig.get("/craft/audit", params={"subject": made["id"]}).json()["data"]
    assert [(e["type"], e["data"]["rows"]) for e in entries] == [("dataset.deleted", 2), ("dataset.created", 2)]
    assert both.uploaded(ROWS)["id"] != made["id"]
    assert both.rig.request("DELETE", f"/craft/datasets/{UNKNOWN_DATASET}").status_code == 404


def test_the_bytes_of_a_deleted_dataset_expire(both: DatasetRig) -> None:
    made = both.uploaded(ROWS)["id"]
    (folder,) = (both.rig.artifacts / "artifacts").iterdir()
    long_ago = time.time() - 10 * 86_400
    for path in (*folder.iterdir(), folder):
        os.utime(path, (long_ago, long_ago))
    retention = GarbageCollector(both.rig.database, ArtifactFolders(both.rig.artifacts), RetentionSettings())
    assert retention.collect().expired == []
    both.rig.request("DELETE", f"/craft/datasets/{made}")
    assert len(retention.collect().expired) == 1
    assert not folder.exists()


def test_a_job_does_not_begin_with_a_dataset_that_was_just_deleted(both: DatasetRig) -> None:
    made = both.uploaded(jsonl(ASKED))["id"]
    resolved = both.rig.reader.resolved(job := both.rig.submit(dataset={"id": made}))
    both.rig.post(f"/craft/jobs/{job}/cancel")
    both.rig.request("DELETE", f"/craft/datasets/{made}")
    with pytest.raises(RequestInvalid, match=made):
        both.rig.control.create_job(resolved, new_data=True)
