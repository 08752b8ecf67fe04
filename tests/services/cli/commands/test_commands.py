"""The craft command as a person meets it."""

import io
import json
import shlex
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.services.cli.answering import answering
from tests.services.cli.views import ADAPTER_ID, DATASET_ID, JOB_ID, NOW, deployment, event
from typer.main import get_command
from typer.testing import CliRunner

from craft.contracts.documents.evaluation import EstimateView
from craft.contracts.openai.chat import ChatRequest
from craft.contracts.problems import Problem
from craft.contracts.spec.jobs import JobSpec
from craft.core.questions import Task
from craft.errors import Conflict
from craft_cli.demo import specification
from craft_cli.main import app
from craft_cli.tables.listings import percent
from craft_cli.watching import watch

RUNNER = CliRunner()
NOBODY = "http://127.0.0.1:9"


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
def test_every_command_explains_itself(words: list[str]) -> None:
    result = RUNNER.invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_a_specification_that_is_no_json_is_a_usage_error(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    path.write_text("not json")
    result = RUNNER.invoke(app, ["jobs", "submit", str(path), "--url", NOBODY])
    assert result.exit_code == 2
    assert "not a readable JSON file" in result.output
    path.write_text(json.dumps([1]))
    assert RUNNER.invoke(app, ["jobs", "submit", str(path), "--url", NOBODY]).exit_code == 2


@pytest.mark.parametrize("task", ["multiple-choice", "multiple_choice"])
def test_a_task_is_named_with_hyphens_or_underscores(tmp_path: Path, task: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("{}")
    words = ["datasets", "add", str(path), "--url", NOBODY, "--task"]
    assert RUNNER.invoke(app, [*words, task]).exit_code == 3
    assert RUNNER.invoke(app, [*words, "essay"]).exit_code == 2


def test_down_without_a_stack_says_so(tmp_path: Path) -> None:
    result = RUNNER.invoke(app, ["down", "--state-dir", str(tmp_path)])
    assert (result.exit_code, result.output) == (0, "Nothing runs.\n")


@pytest.mark.parametrize("task", list(Task))
def test_the_demo_is_a_job_that_anyone_could_post(task: Task) -> None:
    spec = JobSpec.model_validate(specification(task, dataset_id=DATASET_ID, seed=1))
    assert (spec.task, [s.value for s in spec.strategies]) == (task, ["craft", "cor-rait"])


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


def test_a_refused_deployment_is_said_with_its_hint() -> None:
    problem = Problem.of(Conflict("No engine.", hint="Set CRAFT_INFERENCE__ENGINE=vllm."))
    with answering(problem.model_dump_json().encode(), status=409) as (url, _):
        result = RUNNER.invoke(app, ["jobs", "deploy", JOB_ID, "--url", url])
    assert result.exit_code == 1
    assert "CRAFT_INFERENCE__ENGINE=vllm" in result.output


def test_watching_prints_a_line_for_each_stage() -> None:
    output = io.StringIO()
    events = [
        event(1, "stage.started", stage="probe:initial", attempt=1),
        event(2, "job.progress", stage="tune:craft", percent=40.0, done=1, total=2, metrics={"loss": 0.5}),
        event(3, "stage.succeeded", stage="probe:initial", seconds=81.23, percent=50.0),
        event(4, "stage.reused", stage="score:initial", percent=60.0),
        event(5, "job.succeeded"),
    ]
    watch(events, Console(file=output, width=80))
    assert output.getvalue().splitlines() == ["✓ probe:initial 81.2 s", "↺ score:initial reused"]


def test_who_looks_in_late_is_told_what_is_left() -> None:
    output = io.StringIO()
    events = [event(1, "job.started"), event(2, "job.progress", stage="tune:craft", percent=75.0, done=3, total=4)]
    late = events[1].model_copy(update={"created_at": NOW + timedelta(minutes=9)})
    watch([events[0], late], Console(file=output, width=120, force_terminal=True))
    assert "ETA 3:00" in output.getvalue()


def test_an_undefined_share_is_a_dash_and_an_interval_is_shown() -> None:
    assert percent(EstimateView(value=None, reason="no wrong answer")) == "–"
    assert percent(EstimateView(value=0.436, low=0.4, high=0.47)) == "43.6 [40.0, 47.0]"
    assert percent(EstimateView(value=0.5)) == "50.0"


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that lead to it."""
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
def test_every_command_takes_json_and_explains_itself(words: tuple[str, ...]) -> None:
    options = {option for parameter in COMMANDS[words].params for option in parameter.opts}
    assert ("--json" in options) == (words not in NOT_JSON)
    result = RUNNER.invoke(app, [*words, "--help"])
    assert (result.exit_code, "Usage" in result.output) == (0, True)
