"""The command in a real shell: pipes, signals, encodings, completion."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from tests.services.cli.answering import answering, http_server
from tests.services.cli.views import JOB_ID, as_sse, event, job_view

from craft.contracts.public.jobs import JobList
from craft.contracts.spec.jobs import JobStatus

CRAFT = [sys.executable, "-m", "craft_cli"]


def command_environment(**environment: str) -> dict[str, str]:
    """The environment of a command, without the user's own profiles."""
    return os.environ | {"XDG_CONFIG_HOME": "/nonexistent"} | environment


def craft(*words: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([*CRAFT, *words], env=command_environment(**environment), capture_output=True, check=False)


def listed(name: str) -> bytes:
    view = job_view(JobStatus.RUNNING).model_copy(update={"name": name})
    return JobList(data=[view], has_more=False, last_id=JOB_ID).model_dump_json().encode()


def test_a_piped_table_is_plain_and_whole() -> None:
    name = "[red]Köln[/] 🌊 " + "long " * 60
    with answering(listed(name)) as (url, _):
        shown = craft("jobs", "ls", "--url", url).stdout.decode()
    assert name.strip() in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 2


def test_a_terminal_without_unicode_gets_question_marks_and_no_trace() -> None:
    with answering(listed("Köln")) as (url, _):
        finished = craft("jobs", "ls", "--url", url, PYTHONIOENCODING="ascii")
    assert (finished.returncode, b"K?ln" in finished.stdout, finished.stderr) == (0, True, b"")


def test_json_is_one_document_whatever_the_encoding() -> None:
    with answering(listed("Köln")) as (url, _):
        assert json.loads(craft("jobs", "ls", "--json", "--url", url).stdout)["data"][0]["name"] == "Köln"


def test_a_closed_pipe_ends_the_command_without_a_trace() -> None:
    lines = json.dumps(
        {
            "object": "list",
            "data": [
                {"id": n, "stage": "ingest", "attempt": 1, "line": "x" * 900, "created_at": "2026-01-01T00:00:00Z"}
                for n in range(1000)
            ],
            "has_more": False,
            "last_id": 999,
        }
    ).encode()
    with answering(lines) as (url, _):
        script = f'"$@" jobs logs {JOB_ID} --url {url} | head -1'
        command = ["bash", "-c", script, "bash", *CRAFT]
        finished = subprocess.run(command, env=command_environment(), capture_output=True, check=False)
    assert finished.stdout.startswith(b"ingest#1 x")
    assert finished.stderr == b""


@contextmanager
def streaming() -> Iterator[tuple[str, threading.Event]]:
    """A server whose job never ends: its address, and an event that is set when a client follows the job."""
    followed = threading.Event()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(as_sse(event(1, "job.created")))
            self.wfile.flush()
            followed.set()
            over.wait(30)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http_server(Handler) as url:
        try:
            yield url, followed
        finally:
            over.set()


def test_ctrl_c_leaves_the_job_running_and_prints_that() -> None:
    with streaming() as (url, followed):
        watching = subprocess.Popen(
            # A shell that runs the tests in the background may ignore Ctrl-C.
            ["env", "--default-signal=INT", *CRAFT, "jobs", "watch", JOB_ID, "--url", url],
            env=command_environment(),
            stderr=subprocess.PIPE,
        )
        assert followed.wait(20)
        watching.send_signal(signal.SIGINT)
        _, output = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert f"The job goes on. See it again: craft jobs watch {JOB_ID}" in output.decode()
    assert b"Traceback" not in output


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_watching_a_job_that_does_not_succeed_is_6_with_its_view_and_its_problem(status: JobStatus) -> None:
    kind = f"job.{status.value}"
    view = job_view(status).model_dump_json().encode()
    with answering(as_sse(event(1, kind)), view) as (url, _):
        finished = craft("jobs", "watch", JOB_ID, "--json", "--url", url)
    assert finished.returncode == 6
    assert json.loads(finished.stdout)["status"] == status.value
    code = "too_few_known" if status is JobStatus.FAILED else "job_cancelled"
    assert json.loads(finished.stderr)["code"] == code


def test_bash_completes_commands_and_options() -> None:
    words = {"COMP_WORDS": "craft jobs c", "COMP_CWORD": "2", "_CRAFT_COMPLETE": "complete_bash"}
    finished = subprocess.run(CRAFT, env=command_environment(**words), capture_output=True, text=True, check=False)
    assert finished.stdout.split() == ["cancel", "compare"]


def test_bash_completes_the_ids_and_names_of_jobs() -> None:
    def completed(incomplete: str, url: str) -> list[str]:
        words = {"COMP_WORDS": f"craft jobs watch {incomplete}", "COMP_CWORD": "3", "_CRAFT_COMPLETE": "complete_bash"}
        environment = command_environment(**words, CRAFT_URL=url)
        return subprocess.run(CRAFT, env=environment, capture_output=True, text=True, check=True).stdout.split()

    for incomplete, words in (("abl", ["ablation"]), ("cjob_01", [JOB_ID]), ("x", [])):
        with answering(listed("ablation")) as (url, _):
            assert completed(incomplete, url) == words
    assert completed("abl", "http://127.0.0.1:9") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_that_shell(shell: str, tmp_path: Path) -> None:
    finished = craft("completion", shell)
    assert finished.returncode == 0
    assert b"_CRAFT_COMPLETE" in finished.stdout
    if shell == "bash":
        script = tmp_path / "completion"
        script.write_bytes(finished.stdout)
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert craft("completion", "tcsh").returncode == 2
