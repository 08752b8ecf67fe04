import io
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from tests.services.gateway.rigs.dataset_rig import row_checking_rig
from tests.services.gateway.rigs.public_rig import UNKNOWN_DATASET, Rig, open_rig, rows
from tests.tokens import SERVICE_TOKEN

from craft.contracts.problems import Problem
from craft.contracts.services.datasets import DatasetFormat, Reading
from craft.core.questions import Task
from craft.errors import CraftError, DatasetInvalid, ErrorDetail, Internal, PayloadTooLarge, Unavailable
from craft_gateway.datasets.client import HttpDatasetsClient
from craft_gateway.datasets.client_fake import FakeDatasetsClient

JSONL = "\n".join(json.dumps(row) for row in rows(5)).encode()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with row_checking_rig(tmp_path) as rig:
        yield rig


def test_an_upload_becomes_a_dataset_with_an_id(rig: Rig) -> None:
    files = {"file": ("../../etc/my facts.jsonl", JSONL)}
    answer = rig.post("/craft/datasets", files=files, data={"task": "open_ended", "format": "jsonl"})
    dataset = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/craft/datasets/{dataset['id']}" == dataset["links"]["self"]
    assert (dataset["object"], dataset["rows"], dataset["name"]) == ("craft.dataset", 5, "my facts.jsonl")
    assert dataset["statistics"]["answers_per_question"] == 1.0
    assert rig.get(f"/craft/datasets/{dataset['id']}").json() == dataset


def test_the_same_rows_are_the_same_dataset(rig: Rig) -> None:
    first = rig.post("/craft/datasets", json={"rows": rows(5), "name": "one"}).json()
    second = rig.post("/craft/datasets", json={"rows": rows(5), "name": "two"}).json()
    assert second == first


def test_a_name_that_no_database_keeps_is_refused(rig: Rig) -> None:
    answer = rig.post("/craft/datasets", json={"rows": rows(5), "name": "a\0b"})
    assert (answer.status_code, answer.json()["param"]) == (422, "name")


def test_datasets_come_newest_first_in_pages(rig: Rig) -> None:
    made = [rig.post("/craft/datasets", json={"rows": rows(count)}).json()["id"] for count in (2, 3, 4)]
    page = rig.get("/craft/datasets?limit=2").json()
    assert ([d["id"] for d in page["data"]], page["has_more"]) == ([made[2], made[1]], True)
    rest = rig.get(f"/craft/datasets?after={page['last_id']}").json()
    assert ([d["id"] for d in rest["data"]], rest["has_more"]) == ([made[0]], False)


def test_a_job_may_name_an_uploaded_dataset(rig: Rig) -> None:
    dataset_id = rig.post("/craft/datasets", json={"rows": rows()}).json()["id"]
    job_id = rig.submit(dataset={"id": dataset_id})
    assert rig.get(f"/craft/jobs/{job_id}").json()["resolved"]["dataset"]["id"] == dataset_id


def test_unknown_datasets_are_not_found(rig: Rig) -> None:
    for dataset_id in (UNKNOWN_DATASET, "x", "%00", "..%2f..", "a" * 4000):
        assert rig.get(f"/craft/datasets/{dataset_id}").status_code == 404


def test_row_errors_come_back_from_the_service(rig: Rig) -> None:
    answer = rig.post("/craft/datasets", files={"file": ("f", b'{"question": "Why?"}')})
    assert (answer.status_code, answer.json()["code"]) == (422, "dataset_invalid")
    assert (answer.json()["errors"][0]["line"], answer.json()["errors"][0]["field"]) == (1, "answers")


@pytest.mark.parametrize(
    "send",
    [
        lambda rig: rig.post("/craft/datasets", data={"task": "open_ended"}, files={"other": ("f", b"x")}),
        lambda rig: rig.post("/craft/datasets", files=[("file", ("a", b"x")), ("file", ("b", b"x"))]),
        lambda rig: rig.post("/craft/datasets", files={"file": ("f", JSONL)}, data={"task": "guessing"}),
        lambda rig: rig.post("/craft/datasets", files={"file": ("f", JSONL)}, data={"format": "xls"}),
        lambda rig: rig.post("/craft/datasets", files={"file": ("f", JSONL)}, data={"path": "/etc"}),
        lambda rig: rig.post("/craft/datasets", content=b"x", headers={"content-type": "multipart/form-data"}),
        lambda rig: rig.post("/craft/datasets", content=b"x", headers={"content-type": "text/csv"}),
        lambda rig: rig.post("/craft/datasets", content=b"x"),
        lambda rig: rig.post("/craft/datasets", content=b"{", headers={"content-type": "application/json"}),
        lambda rig: rig.post("/craft/datasets", content=b"\xff", headers={"content-type": "application/json"}),
        lambda rig: rig.post("/craft/datasets", json=[]),
        lambda rig: rig.post("/craft/datasets", json={"rows": [1]}),
        lambda rig: rig.post("/craft/datasets", json={"rows": rows(2), "more": 1}),
    ],
    ids=[
        "no file",
        "two files",
        "task",
        "format",
        "unknown field",
        "no boundary",
        "csv as body",
        "no type",
        "half JSON",
        "not UTF-8",
        "a list",
        "rows of numbers",
        "unknown member",
    ],
)
def test_a_malformed_upload_is_a_problem(rig: Rig, send: Callable[[Rig], httpx.Response]) -> None:
    answer = send(rig)
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")
    assert answer.json()["hint"]


def test_empty_rows_are_no_dataset(rig: Rig) -> None:
    answer = rig.post("/craft/datasets", json={"rows": []})
    assert (answer.json()["code"], answer.json()["param"]) == ("dataset_invalid", "rows")
    assert answer.json()["detail"] == "The dataset is empty: it has no rows."


def test_rows_and_a_file_are_checked_by_the_same_rules(rig: Rig) -> None:
    assert (
        rig.post("/craft/datasets", json={"rows": rows(5)}).json()["id"]
        == (rig.post("/craft/datasets", files={"file": ("f", JSONL)}).json()["id"])
    )
    wrong = [*rows(5), {"question": "Où?", "answers": [], "note": "\u2028\x7f\n"}, *rows(1)]
    lines = "\n".join(json.dumps(row) for row in wrong).encode()
    inline = rig.post("/craft/datasets", json={"rows": wrong}).json()
    upload = rig.post("/craft/datasets", files={"file": ("f", lines)}).json()
    assert (inline["param"], upload["param"]) == ("rows", None)
    for member in ("status", "code", "detail", "hint", "errors", "error_counts"):
        assert inline[member] == upload[member]
    assert [(error["line"], error["field"]) for error in inline["errors"]] == [(6, "answers"), (7, "id")]


def with_a_note(rig: Rig, value: str) -> httpx.Response:
    content = f'{{"rows": [{json.dumps(rows(1)[0])}, {{"question": "Why?", "answer": "x", "note": {value}}}]}}'
    return rig.post("/craft/datasets", content=content, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("value", ['"\\ud800"', "NaN", "1e999", "9" * 4000], ids=["surrogate", "NaN", "inf", "huge"])
def test_a_value_that_utf_8_or_64_bits_cannot_hold_is_named_by_row_and_member(rig: Rig, value: str) -> None:
    answer = with_a_note(rig, value)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["param"]) == (422, "dataset_invalid", "rows")
    assert [(error["line"], error["field"]) for error in problem["errors"]] == [(2, "note")]


def test_a_column_that_is_half_a_character_is_a_problem(rig: Rig) -> None:
    content = json.dumps({"rows": rows(1), "columns": {"\ud800": "a"}})
    answer = rig.post("/craft/datasets", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "request_invalid")


@pytest.mark.parametrize("value", ["9" * 30, "[" * 600 + "]" * 600], ids=["beyond 64 bits", "deeply nested"])
def test_a_member_that_is_not_read_may_be_any_other_json(rig: Rig, value: str) -> None:
    assert with_a_note(rig, value).status_code == 201


def test_a_row_that_is_nested_too_deeply_to_be_sent_on_is_named(rig: Rig) -> None:
    deep: object = "bottom"
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(DatasetInvalid, match="too deeply") as caught:
        rig.registry.add_rows([*rows(1), {"note": deep}], Reading(), name=None, team="default")
    assert (caught.value.param, caught.value.details[0].line) == ("rows", 2)


def test_a_service_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with open_rig(tmp_path) as rig:
        rig.datasets.down = True
        for answer in (
            rig.post("/craft/datasets", json={"rows": rows(2)}),
            rig.post("/craft/datasets", files={"file": ("f", JSONL)}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0


def client_of(handle: Callable[[httpx.Request], httpx.Response]) -> HttpDatasetsClient:
    return HttpDatasetsClient("http://datasets", token=SERVICE_TOKEN, transport=httpx.MockTransport(handle))


def test_the_client_sends_the_file_and_its_fields() -> None:
    seen: list[bytes] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.read())
        stored = FakeDatasetsClient().store_file(io.BytesIO(JSONL), Reading())
        return httpx.Response(200, text=stored.model_dump_json())

    client = client_of(handle)
    reading = Reading(task=Task.OPEN_ENDED, format=DatasetFormat.JSONL)
    stored = client.store_file(io.BytesIO(JSONL), reading)
    assert stored.rows == 5
    assert JSONL in seen[0]
    assert b'name="task"\r\n\r\nopen_ended' in seen[0]
    assert b'name="format"\r\n\r\njsonl' in seen[0]
    assert b'name="columns"\r\n\r\n{}' in seen[0]
    client.store_file(io.BytesIO(JSONL), Reading(), chat_lines=True)
    assert b'name="chat_lines"\r\n\r\ntrue' in seen[1]
    assert b'name="task"' not in seen[1]
    client.close()


class Closing(httpx.BaseTransport):
    """Breaks off the first requests once it has their bodies, as a server does that closes the connection."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.bodies: list[bytes] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        self.bodies.append(b"".join(request.stream))
        if len(self.bodies) <= self.times:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        stored = FakeDatasetsClient().store_file(io.BytesIO(JSONL), Reading())
        return httpx.Response(200, text=stored.model_dump_json())


def test_a_connection_that_the_service_has_closed_is_replaced_and_the_whole_file_sent_again() -> None:
    broken = Closing(1)
    with closing(HttpDatasetsClient("http://datasets", token=SERVICE_TOKEN, transport=broken)) as client:
        assert client.store_file(io.BytesIO(JSONL), Reading()).rows == 5
    first, second = broken.bodies
    assert first == second
    assert JSONL in second


def test_a_service_that_breaks_off_twice_is_unavailable() -> None:
    broken = Closing(2)
    with (
        closing(HttpDatasetsClient("http://datasets", token=SERVICE_TOKEN, transport=broken)) as client,
        pytest.raises(Unavailable),
    ):
        client.store_file(io.BytesIO(JSONL), Reading())
    assert len(broken.bodies) == 2


def test_the_client_passes_on_what_the_caller_can_mend() -> None:
    detail = ErrorDetail("is empty", field="question", line=7, excerpt="''")
    raised = DatasetInvalid("1 of 9 rows cannot be used.", hint="Mend it.", details=[detail])

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(422, text=Problem.of(raised).model_dump_json())

    client = client_of(handle)
    with pytest.raises(DatasetInvalid, match="1 of 9") as caught:
        client.store_file(io.BytesIO(), Reading())
    assert (caught.value.hint, caught.value.details) == ("Mend it.", (detail,))
    client.close()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.Response(500, text="<html>"), Unavailable),
        (httpx.Response(200, text="not a dataset"), Unavailable),
        (httpx.Response(500, text=Problem.of(Internal("a defect")).model_dump_json()), Unavailable),
        (httpx.Response(413, text=Problem.of(PayloadTooLarge("big")).model_dump_json()), PayloadTooLarge),
    ],
    ids=["no problem document", "no dataset", "its own defect", "too large"],
)
def test_the_client_blames_the_caller_only_where_it_helps(answer: httpx.Response, expected: type[CraftError]) -> None:
    client = client_of(lambda _: answer)
    with pytest.raises(expected):
        client.store_file(io.BytesIO(), Reading())
    client.close()


def test_a_refused_connection_is_unavailable() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    away = client_of(refuse)
    with pytest.raises(Unavailable):
        away.store_file(io.BytesIO(), Reading())
    away.close()
