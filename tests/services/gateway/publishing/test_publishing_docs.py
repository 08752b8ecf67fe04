"""Every command of shared/docs/publishing.md runs."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.services.gateway.rigs.loopback import served
from tests.services.gateway.rigs.public_rig import Rig, model_folder, open_rig
from typer.testing import CliRunner

from craft.infra.settings.settings import Settings
from craft_cli.main import app

PAGE = (Path(__file__).parents[4] / "shared/docs/publishing.md").read_text(encoding="utf-8")
SETTINGS = "\n".join(re.findall(r"```env\n(.*?)```", PAGE, re.DOTALL))
LINES = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line.strip()
]
OURS = [line for line in LINES if not line.startswith("mlflow ")]  # test_publishing_mlflow.py runs that one


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for line in filter(None, SETTINGS.splitlines()):
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.fixture
def rig(tmp_path: Path, settings: Settings) -> Iterator[Rig]:
    with open_rig(tmp_path, publishing=settings.publishing) as opened:
        model_folder(opened.models, "HuggingFaceTB/SmolLM2-135M-Instruct")
        yield opened


def filled(line: str, rig: Rig) -> list[str]:
    """Return the words of a line, with ids of two finished jobs and of their dataset."""
    first, second = (rig.submit(training={"epochs": epochs}) for epochs in (1, 2))
    for job in (first, second):
        rig.finish(job)
    dataset = rig.get("/craft/datasets").json()["data"][0]["id"]
    line = line.replace("cjob_…", first, 1).replace("cjob_…", second).replace("dset_…", dataset)
    assert "…" not in line
    return shlex.split(line)


def test_every_setting_of_the_page_is_one(settings: Settings) -> None:
    publishing = settings.publishing
    assert publishing.mlflow is not None
    assert publishing.hub is not None
    assert publishing.mlflow.tracking_uri == "https://mlflow.example.com"
    assert publishing.hub.owners == ["acme"]
    assert len(OURS) > 6


@pytest.mark.parametrize("line", OURS)
def test_every_command_of_the_page_does_something(rig: Rig, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, *words = filled(line, rig)
    with served(rig.app) as url:
        if program == "craft":
            monkeypatch.setenv("CRAFT_URL", url)
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, result.output
            return
        assert program == "curl"
        (target,) = (word for word in words if word.startswith("$CRAFT_URL"))
        body = words[words.index("--json") + 1] if "--json" in words else None
        path = target.removeprefix("$CRAFT_URL")
        answer = (
            httpx.get(url + path, trust_env=False)
            if body is None
            else httpx.post(url + path, json=json.loads(body), trust_env=False)
        )
        assert answer.is_success, answer.text


def test_what_the_page_says_of_a_comparison_is_printed_as_tables(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    words = filled("craft jobs compare cjob_… cjob_…", rig)
    with served(rig.app) as url:
        monkeypatch.setenv("CRAFT_URL", url)
        monkeypatch.setenv("COLUMNS", "200")
        shown = CliRunner().invoke(app, words[1:]).output
        other = rig.submit(seed=7, name="[bold]é")
        rig.finish(other)
        unequal = CliRunner().invoke(app, [*words[1:3], words[3], other]).output
        refused = CliRunner().invoke(app, ["jobs", "publish", words[3]])
        misnamed = CliRunner().invoke(app, ["jobs", "publish", words[3], "--hub", "support-qa"])
    assert "training.epochs" in shown
    assert "differences in points" in shown
    assert re.search(r"2 cor-rait +1 cor-rait", shown)
    assert "not the same" in unequal
    assert "[bold]é" in unequal
    assert (refused.exit_code, "--mlflow" in refused.output) == (2, True)
    assert (misnamed.exit_code, "write OWNER/NAME" in misnamed.output) == (2, True)
