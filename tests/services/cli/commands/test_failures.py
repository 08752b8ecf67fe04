"""Errors as the command tells them: in its own words, with an exit code for each kind."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.services.cli.answering import answering
from tests.services.cli.views import JOB_ID, job_view
from typer.testing import CliRunner

import craft_gateway
from craft.contracts.problems import Problem
from craft.contracts.spec.jobs import JobStatus
from craft.errors import Conflict, CraftError, Forbidden, NotFound, RequestInvalid, Unavailable
from craft_cli.failures import in_commands
from craft_cli.main import app

RUNNER = CliRunner()
CALL = re.compile(r"(GET|POST|PUT|PATCH|DELETE) /")
OPENAI = "/v1/fine_tuning|/v1/files"
"""Calls that only OpenAI's client makes."""


def hints() -> Iterator[str]:
    """Every text of the gateway that tells a call, with a name in place of each expression."""
    for path in Path(str(craft_gateway.__file__)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "hint")]
                yield from (text for value in values if CALL.search(text := written(value)))


def written(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(written(part) for part in parts)
        case ast.FormattedValue():
            return "x"
        case _:
            return ""


HINTS = sorted({hint for hint in hints() if not re.search(OPENAI, hint)})


def test_the_gateway_has_hints_that_tell_calls() -> None:
    assert len(HINTS) > 8


@pytest.mark.parametrize("hint", HINTS)
def test_every_hint_that_tells_a_call_is_told_as_a_command(hint: str) -> None:
    told = in_commands(hint)
    assert not CALL.search(told)
    assert "craft " in told


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("`GET /craft/jobs` lists them.", "`craft jobs ls` lists them."),
        ("Wait with `GET /craft/jobs/{id}?wait=30`, and ask again.", "Wait with `craft jobs watch`, and ask again."),
        ("`POST /craft/jobs/cjob_1/retry` goes on.", "`craft jobs retry cjob_1` goes on."),
        ("Have it raised with PUT /craft/teams/a.b.", "Have it raised with `craft teams set a.b`."),
        ("Say with `strategy` one of a, b.", "Say with `--strategy` one of a, b."),
        ("Else say with `columns` which is which.", "Else say with `--column OURS=THEIRS` which is which."),
        ("Name in `from_stage` where to compute again.", "Name with `--from` where to compute again."),
        ("Nothing of the kind.", "Nothing of the kind."),
        ("An unknown `GET /craft/nothing`.", "An unknown `GET /craft/nothing`."),
    ],
)
def test_a_hint_is_told_in_commands(hint: str, told: str) -> None:
    assert in_commands(hint) == told


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestInvalid("x"), 2),
        (Forbidden("x"), 5),
        (NotFound("x"), 4),
        (Conflict("The job's stage report is pending."), 7),
    ],
)
def test_each_kind_of_refusal_has_its_exit_code(error: CraftError, code: int) -> None:
    with answering(Problem.of(error).model_dump_json().encode(), status=error.status) as (url, _):
        result = RUNNER.invoke(app, ["jobs", "report", JOB_ID, "--url", url])
    assert result.exit_code == code
    assert f"{code} " in RUNNER.invoke(app, ["jobs", "report", "--help"]).output


def test_a_fault_of_the_server_is_1() -> None:
    # It is tried again some times.
    problem = Problem.of(Unavailable("x")).model_copy(update={"status": 500, "retryable": False})
    with answering(*[problem.model_dump_json().encode()] * 9, status=500) as (url, _):
        assert RUNNER.invoke(app, ["jobs", "report", JOB_ID, "--url", url]).exit_code == 1


def test_the_hint_of_a_failed_job_is_told_in_commands() -> None:
    view = job_view(JobStatus.FAILED)
    assert view.error is not None
    error = view.error.model_copy(update={"hint": "`POST /craft/jobs/cjob_1/retry` goes on from there."})
    with answering(view.model_copy(update={"error": error}).model_dump_json().encode()) as (url, _):
        shown = RUNNER.invoke(app, ["jobs", "get", JOB_ID, "--url", url]).output
    assert "`craft jobs retry cjob_1` goes on from there." in shown


def test_a_setting_that_cannot_be_used_is_named_as_in_the_environment(tmp_path: Path) -> None:
    environment = os.environ | {"CRAFT_GATEWAY__PORT": "many", "CRAFT_LOG_FORMAT": "xml"}
    command = [sys.executable, "-m", "craft_cli", "up", "--state-dir", str(tmp_path / "state")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert 'CRAFT_GATEWAY__PORT: must be a whole number, not "many"' in ended.stderr
    assert "CRAFT_LOG_FORMAT: must be 'text' or 'json', not \"xml\"" in ended.stderr
    assert "pydantic" not in ended.stderr


def test_an_answer_of_another_form_is_told_in_plain_words() -> None:
    with answering(b'{"object": "craft.job"}') as (url, _):
        result = RUNNER.invoke(app, ["jobs", "get", JOB_ID, "--url", url])
    assert "The server's answer is no JobView. `id` is missing." in result.output


def test_the_version_is_printed() -> None:
    result = RUNNER.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"craft \d+\.\d+\.\d+\S*\n", result.output)


@pytest.mark.parametrize("group", ["jobs", "datasets", "webhooks", "models", "keys", "teams"])
def test_list_is_another_name_of_ls(group: str) -> None:
    result = RUNNER.invoke(app, [group, "list", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 3
    assert " list " not in RUNNER.invoke(app, [group, "--help"]).output
