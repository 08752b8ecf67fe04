"""Arguments that name a job or a dataset by a part of its id or by its name."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.services.cli.answering import http_server
from tests.services.cli.views import job_view
from typer.testing import CliRunner

from craft.contracts.public.jobs import JobList, JobView
from craft.contracts.spec.jobs import JobStatus
from craft_cli.main import app

RUNNER = CliRunner()
FIRST, SECOND, THIRD = (f"cjob_01jgywz3x4v5q6r7s8t9vawb{end}" for end in ("x3", "x2", "a1"))


def job(job_id: str, name: str | None) -> JobView:
    return job_view(JobStatus.RUNNING).model_copy(update={"id": job_id, "name": name})


@contextmanager
def serving(jobs: list[JobView]) -> Iterator[tuple[str, list[str]]]:
    """A server that lists and shows these jobs, newest first, as the gateway does: its URL, and the asked paths."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            url = urlsplit(self.path)
            query = parse_qs(url.query)
            if url.path in {"/craft/jobs", "/craft/datasets"}:
                after = query.get("after", ["cjob_~"])[0]
                page = [each for each in jobs if each.id < after][: int(query["limit"][0])]
                content = JobList(data=page, has_more=False, last_id=None).model_dump_json()
            else:
                content = next(each for each in jobs if url.path.endswith(each.id)).model_dump_json()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content.encode())))
            self.end_headers()
            self.wfile.write(content.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http_server(Handler) as url:
        yield url, asked


JOBS = [job(FIRST, "ablation"), job(SECOND, "twice"), job(THIRD, "twice")]


def got(given: str, jobs: list[JobView] = JOBS, *, code: int = 0) -> str:
    """The id of the job that `craft jobs get` shows for an argument, or its error."""
    with serving(jobs) as (url, _):
        result = RUNNER.invoke(app, ["jobs", "get", given, "--json", "--url", url])
    assert result.exit_code == code, result.output
    return str(json.loads(result.stdout)["id"]) if code == 0 else result.output


@pytest.mark.parametrize("given", [FIRST, FIRST[:-1], "ablation"])
def test_a_job_is_named_by_its_id_the_beginning_of_it_or_its_name(given: str) -> None:
    if given == FIRST[:-1]:
        assert got(given, [JOBS[0], JOBS[2]]) == FIRST
    else:
        assert got(given) == FIRST


@pytest.mark.parametrize(("given", "named"), [("twice", (SECOND, THIRD)), (FIRST[:-1], (FIRST, SECOND))])
def test_what_fits_several_jobs_is_refused_with_their_ids(given: str, named: tuple[str, ...]) -> None:
    shown = got(given, code=2)
    assert "is not clear" in shown
    assert all(job_id in shown for job_id in named)


@pytest.mark.parametrize("given", ["nobody", "cjob_7", "cjob_"])
def test_what_fits_no_job_is_not_found(given: str) -> None:
    assert "`craft jobs ls` lists them" in got(given, code=4)


def test_a_whole_id_is_not_looked_up() -> None:
    with serving(JOBS) as (url, asked):
        RUNNER.invoke(app, ["jobs", "get", SECOND, "--url", url])
    assert asked == [f"/craft/jobs/{SECOND}"]


def test_the_beginning_of_an_id_costs_one_page_of_jobs_whatever_their_number() -> None:
    many = [job(f"cjob_01jgywz3x4v5q6r7s8t9{n:06d}", None) for n in range(400, 0, -1)]
    with serving(many) as (url, asked):
        result = RUNNER.invoke(app, ["jobs", "get", "cjob_01jgywz3x4v5q6r7s8t900012", "--url", url])
    assert result.exit_code == 2
    assert asked == ["/craft/jobs?limit=6&after=cjob_01jgywz3x4v5q6r7s8t900012z"]


@pytest.mark.parametrize("words", [["watch"], ["get"], ["cancel"], ["report"], ["download"]])
def test_an_empty_id_is_a_usage_error(words: list[str]) -> None:
    result = RUNNER.invoke(app, ["jobs", *words, "", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 2
    assert "is missing" in result.output


def test_an_empty_id_of_another_kind_is_a_usage_error_too() -> None:
    assert RUNNER.invoke(app, ["webhooks", "get", "", "--url", "http://127.0.0.1:9"]).exit_code == 2


def test_several_jobs_are_named_each_for_itself() -> None:
    with serving(JOBS) as (url, asked):
        RUNNER.invoke(app, ["jobs", "compare", "ablation", SECOND, "--url", url])
    assert asked[-1].endswith(f"compare?ids={FIRST}%2C{SECOND}")


def test_a_dataset_that_is_no_file_and_no_dataset_is_refused(tmp_path: Path) -> None:
    spec = tmp_path / "job.json"
    spec.write_text("{}")
    with serving([]) as (url, _):
        words = ["jobs", "submit", str(spec), "--dataset", "nothing.jsonl", "--url", url]
        result = RUNNER.invoke(app, words)
    assert result.exit_code == 2
    assert "'nothing.jsonl' is no file here, and no dataset has this name or id." in result.output
