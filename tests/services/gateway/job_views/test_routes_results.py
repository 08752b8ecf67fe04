from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.services.gateway.rigs.public_rig import Rig, open_rig

from craft.errors import ModelGated
from craft.infra.settings.addresses import is_loopback


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with open_rig(tmp_path) as rig:
        yield rig


class Done(NamedTuple):
    """A finished job of two strategies. Shared, so tests only read it."""

    rig: Rig
    id: str


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    with open_rig(tmp_path_factory.mktemp("done")) as rig:
        job_id = rig.submit(strategies=["cor-rait", "van-tuning"])
        rig.finish(job_id)
        yield Done(rig, job_id)


def test_the_report_comes_in_the_form_that_is_asked_for(done: Done) -> None:
    report = f"/craft/jobs/{done.id}/report"
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    assert list(done.rig.get(report).json()) == ["cost", "estimate"]
    assert list(done.rig.get(report, headers={"Accept": "application/json, text/html"}).json()) == ["cost", "estimate"]
    assert done.rig.get(report, headers={"Accept": browser}).text.startswith("<!doctype html>")
    assert list(done.rig.get(f"{report}.json", headers={"Accept": browser}).json()) == ["cost", "estimate"]
    assert done.rig.get(f"{report}.html").headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("what", ["adapter?strategy=cor-rait", "report.html", "report", "events"])
def test_head_tells_of_a_result_without_sending_it(done: Done, what: str) -> None:
    path = f"/craft/jobs/{done.id}/{what}"
    head, get = done.rig.request("HEAD", path, headers={"Range": "bytes=1-"}), done.rig.get(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag"):
        assert head.headers.get(name) == get.headers.get(name)


def test_head_of_a_stream_ends_at_once(rig: Rig) -> None:
    answer = rig.request("HEAD", f"/craft/jobs/{rig.submit()}/events", headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_a_report_says_what_the_job_reused(rig: Rig) -> None:
    first = rig.submit()
    rig.finish(first)
    again = rig.submit()
    for job_id, reused in ((first, False), (again, True)):
        word = "reused" if reused else "computed"
        assert rig.get(f"/craft/jobs/{job_id}/report.html").text == f"<!doctype html>{word},{word}"
        assert [row["reused"] for row in rig.get(f"/craft/jobs/{job_id}/report").json()["cost"]] == [reused] * 2


def test_the_html_report_may_fetch_nothing(done: Done) -> None:
    headers = done.rig.get(f"/craft/jobs/{done.id}/report.html").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_an_adapter_is_downloaded_under_its_own_name(done: Done) -> None:
    answer = done.rig.get(f"/craft/jobs/{done.id}/adapter?strategy=cor-rait")
    assert answer.content == b"\x1f\x8bpackage:cor-rait"
    assert answer.headers["content-type"] == "application/gzip"
    assert answer.headers["content-disposition"] == f'attachment; filename="{done.id}-cor-rait.tar.gz"'
    adapter = next(a for a in done.rig.get(f"/craft/jobs/{done.id}").json()["adapters"] if a["strategy"] == "cor-rait")
    assert adapter["bytes"] == len(answer.content)
    assert done.rig.get(adapter["download"]).content == answer.content


WHOLE = b"\x1f\x8bpackage:cor-rait"


@pytest.mark.parametrize(
    ("asked", "part", "told"),
    [
        ("bytes=0-", WHOLE, "bytes 0-17/18"),
        ("bytes=0-1", WHOLE[:2], "bytes 0-1/18"),
        ("bytes=17-17", WHOLE[17:], "bytes 17-17/18"),
        ("bytes=10-999999", WHOLE[10:], "bytes 10-17/18"),
        ("bytes=-7", WHOLE[-7:], "bytes 11-17/18"),
        ("bytes=-999", WHOLE, "bytes 0-17/18"),
        ("Bytes = 5-", WHOLE[5:], "bytes 5-17/18"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_download_goes_on_where_it_broke_off(done: Done, asked: str, part: bytes, told: str) -> None:
    path = f"/craft/jobs/{done.id}/adapter?strategy=cor-rait"
    answer = done.rig.get(path, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, part)
    assert (answer.headers["content-range"], answer.headers["content-length"]) == (told, str(len(part)))
    etag = done.rig.get(path).headers["etag"]
    assert answer.headers["etag"] == etag
    assert done.rig.get(path, headers={"Range": asked, "If-Range": etag}).status_code == 206
    other = done.rig.get(path, headers={"Range": asked, "If-Range": '"of another file"'})
    assert (other.status_code, other.content) == (200, WHOLE)


@pytest.mark.parametrize(
    "asked",
    ["bytes=5-2", "bytes=0-1,3-4", "bytes=-", "bytes=a-b", "lines=1-2", "5-", "", "bytes=٣-", "bytes=1-" + "9" * 99],
)
def test_what_is_no_single_range_is_ignored(done: Done, asked: str) -> None:
    path = f"/craft/jobs/{done.id}/adapter?strategy=cor-rait"
    answer = done.rig.get(path, headers={"Range": asked.encode()})
    assert (answer.status_code, answer.content, answer.headers["accept-ranges"]) == (200, WHOLE, "bytes")


@pytest.mark.parametrize("asked", ["bytes=18-", "bytes=20-30", "bytes=-0"])
def test_a_part_that_the_file_does_not_have_is_a_problem(done: Done, asked: str) -> None:
    answer = done.rig.get(f"/craft/jobs/{done.id}/adapter?strategy=cor-rait", headers={"Range": asked})
    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["content-range"] == "bytes */18"
    assert "18 bytes" in answer.json()["detail"]


def test_a_job_of_several_adapters_asks_which(done: Done) -> None:
    problem = done.rig.get(f"/craft/jobs/{done.id}/adapter").json()
    assert (problem["code"], problem["param"]) == ("request_invalid", "strategy")
    assert "cor-rait, van-tuning" in problem["hint"]
    assert done.rig.get(f"/craft/jobs/{done.id}/adapter?strategy=craft").status_code == 404
    assert done.rig.get(f"/craft/jobs/{done.id}/adapter?strategy=../x").status_code == 422


def test_a_job_of_one_adapter_needs_no_strategy(rig: Rig) -> None:
    job_id = rig.submit()
    rig.finish(job_id)
    assert rig.get(f"/craft/jobs/{job_id}/adapter").status_code == 200


def test_results_are_not_sent_twice(done: Done) -> None:
    for path in ("report.json", "report.html", "adapter?strategy=cor-rait"):
        tag = done.rig.get(f"/craft/jobs/{done.id}/{path}").headers["etag"]
        again = done.rig.get(f"/craft/jobs/{done.id}/{path}", headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")


def test_what_is_not_there_yet_says_how_to_wait(rig: Rig) -> None:
    job_id = rig.submit()
    for path in ("report", "report.json", "report.html", "adapter"):
        problem = rig.get(f"/craft/jobs/{job_id}/{path}").json()
        assert (problem["status"], problem["code"]) == (409, "conflict")
        assert "wait" in problem["hint"]


def test_what_will_never_be_there_says_so(rig: Rig) -> None:
    job_id = rig.submit()
    rig.fail(rig.claim(job_id), ModelGated("It is gated."))
    problem = rig.get(f"/craft/jobs/{job_id}/report").json()
    assert (problem["status"], problem["detail"]) == (409, "The job ended as failed before its stage report was done.")


def test_artifacts_tell_files_counts_and_costs(rig: Rig) -> None:
    job_id = rig.submit()
    assert rig.get(f"/craft/jobs/{job_id}/artifacts").json()["data"] == []
    rig.complete(rig.claim(job_id))
    (artifact,) = rig.get(f"/craft/jobs/{job_id}/artifacts").json()["data"]
    assert (artifact["stage"], artifact["counts"], artifact["cost"]["seconds"]) == ("ingest", {"rows": 1}, 2.0)
    assert [file["path"] for file in artifact["files"]] == ["rows.jsonl"]
    assert artifact["bytes"] == 64
    assert artifact["reused"] is False


def test_every_operation_is_documented_with_its_errors(rig: Rig) -> None:
    document = rig.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = [op for path in document["paths"].values() for op in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert not [path for path in document["paths"] if path.startswith("/v1/craft")]
    for operation in operations:
        assert operation.get("description") or operation.get("summary")
        statuses = set(operation["responses"])
        assert {"500", "503"} <= statuses
        # A range of statuses would let any answer pass for a documented one.
        assert all(status.isdigit() for status in statuses)
    created = document["paths"]["/craft/jobs"]["post"]
    assert set(created["requestBody"]["content"]["application/json"]["examples"]) == {"uploaded", "inline"}
    assert "model_unsupported" in created["responses"]["422"]["description"]
    conditional = [each for each in operations if "if-none-match" in {p["name"] for p in each.get("parameters", ())}]
    assert len(conditional) == 5
    assert all("304" in each["responses"] for each in conditional)


def test_every_reference_of_the_document_leads_somewhere(rig: Rig) -> None:
    answer = rig.get("/openapi.json")
    schemas = answer.json()["components"]["schemas"]
    named = {part.split('"')[0] for part in answer.text.split("#/components/schemas/")[1:]}
    assert named <= set(schemas)


def test_other_methods_and_paths_are_problems(rig: Rig) -> None:
    for method, path, status in (("DELETE", "/craft/jobs", 405), ("GET", "/craft/none", 404), ("GET", "/", 404)):
        answer = rig.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_only_loopback_is_served_without_keys() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", ""))
