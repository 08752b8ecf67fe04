"""The `craft` command as its users see it."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services.cli.answering import answering
from tests.services.cli.views import ADAPTER_ID, JOB_ID, deployment
from typer.main import get_command
from typer.testing import CliRunner

from craft.contracts.openai.chat import ChatRequest
from craft.contracts.problems import Problem
from craft.errors import Conflict
from craft_cli.main import app

RUNNER = CliRunner()
NO_SERVER = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["jobs"],
        ["datasets"],
        ["models"],
        ["up"],
        ["demo"],
        ["jobs", "submit"],
        ["jobs", "watch"],
        ["jobs", "deploy"],
    ],
)
def test_every_command_has_a_help_text(words: list[str]) -> None:
    result = RUNNER.invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_a_specification_that_is_no_json_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text("not json")
    result = RUNNER.invoke(app, ["jobs", "submit", str(path), "--url", NO_SERVER])
    assert result.exit_code == 2
    assert "not a readable JSON file" in result.output
    path.write_text(json.dumps([1]))
    assert RUNNER.invoke(app, ["jobs", "submit", str(path), "--url", NO_SERVER]).exit_code == 2


@pytest.mark.parametrize("task", ["multiple-choice", "multiple_choice"])
def test_a_task_is_named_with_hyphens_or_underscores(tmp_path: Path, task: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}")
    words = ["datasets", "add", str(path), "--url", NO_SERVER, "--task"]
    assert RUNNER.invoke(app, [*words, task]).exit_code == 3
    assert RUNNER.invoke(app, [*words, "essay"]).exit_code == 2


def test_down_without_a_stack_says_so(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["down", "--state-dir", str(tmp_path)])
    assert (result.exit_code, result.output) == (0, "Nothing runs.\n")


def test_deploying_prints_the_model_and_a_curl_line_that_a_shell_reads_back() -> None:
    answer = deployment().model_dump_json().encode()
    with answering(answer, answer, status=201) as (url, _):
        secret = url.replace("//", "//me:secret@")
        result = RUNNER.invoke(app, ["jobs", "deploy", JOB_ID, "--strategy", "craft", "--url", secret])
        shown = RUNNER.invoke(app, ["jobs", "deploy", JOB_ID, "--json", "--url", url])
    model, curl = result.output.splitlines()
    assert (result.exit_code, model) == (0, ADAPTER_ID)
    words = shlex.split(curl)
    assert words[:2] == ["curl", f"{url}/v1/chat/completions"]
    ChatRequest.model_validate_json(words[-1])
    assert json.loads(words[-1])["model"] == ADAPTER_ID
    assert json.loads(shown.output)["object"] == "craft.deployment"


def test_a_refused_deployment_is_shown_with_its_hint() -> None:
    problem = Problem.of(Conflict("No engine.", hint="Set CRAFT_INFERENCE__ENGINE=vllm."))
    with answering(problem.model_dump_json().encode(), status=409) as (url, _):
        result = RUNNER.invoke(app, ["jobs", "deploy", JOB_ID, "--url", url])
    assert result.exit_code == 7
    assert "CRAFT_INFERENCE__ENGINE=vllm" in result.output


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands, with the words that lead to each."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*words, name))
    if not hasattr(command, "commands"):
        yield words, command


COMMANDS = dict(leaves(get_command(app)))
NOT_JSON = {("up",): "runs until Ctrl-C and prints nothing", ("completion",): "prints a script"}


def test_the_whole_cli_is_there() -> None:
    jobs = "submit validate ls get watch logs cancel pause resume retry report download deploy pin attempts"
    wanted: set[tuple[str, ...]] = {("jobs", name) for name in jobs.split()}
    wanted |= {("jobs", name) for name in ("compare", "publish", "publications")} | {("models", "fetch")}
    wanted |= {("datasets", name) for name in ("add", "ls", "get", "preview", "overlap", "rm")}
    hooks = "create ls get rm set test deliveries redeliver rotate"
    wanted |= {("webhooks", name) for name in hooks.split()}
    wanted |= {("keys", name) for name in ("create", "ls", "revoke")} | {("teams", "set"), ("teams", "ls")}
    wanted |= {(name,) for name in ("up", "demo", "audit", "queue", "me", "login", "completion")}
    assert wanted <= set(COMMANDS)


@pytest.mark.parametrize("words", sorted(COMMANDS))
def test_every_command_takes_json_and_has_a_help_text(words: tuple[str, ...]) -> None:
    options = {option for parameter in COMMANDS[words].params for option in parameter.opts}
    assert ("--json" in options) == (words not in NOT_JSON)
    result = RUNNER.invoke(app, [*words, "--help"])
    assert (result.exit_code, "Usage" in result.output) == (0, True)
