"""Runs the guides as they are written: from upload to downloaded adapter, with curl, the command or a client only."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import FACTS, _copy_embedder, running
from tests.tiny_model import made_up_facts, make_tiny_model

pytestmark = [pytest.mark.model, pytest.mark.timeout(420)]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "shared" / "docs"
OPERATOR_KEY = "an-operator-key-of-the-tests-0123456789"
LORA = {"lora_r": 16, "lora_alpha": 32, "epochs": 20, "batch_size": 8, "learning_rate": 5e-3}
SETTINGS: dict[str, Any] = {
    "strategies": ["craft"],
    "split": {"held_out_fraction": 0.4},
    "probe": {"temperature": 0.7, "max_new_tokens": 8},
    "rehearsal": {"size": 12, "training": {**LORA, "epochs": 6, "min_steps": 8}},
    "selection": {"n_van": 12, "n_idk": 12},
    "training": LORA,
    "evaluation_settings": {"max_new_tokens": 8, "resamples": 200},
}


@dataclass(frozen=True)
class Walker:
    """A user with a key, files, and a shell that has the command `craft`."""

    folder: Path
    environment: dict[str, str]

    def run(
        self, *words: str, code: int = 0, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        whole = {**self.environment, **(environment or {})}
        finished = subprocess.run(words, cwd=self.folder, env=whole, capture_output=True, text=True, check=False)
        assert finished.returncode == code, f"{finished.returncode}\n{finished.stdout}\n{finished.stderr}"
        return finished

    def shell(self, script: str, **environment: str) -> str:
        return self.run("bash", "-euo", "pipefail", "-c", script, environment=environment).stdout

    def adapter(self) -> list[str]:
        """The names of the files in the downloaded adapter, which is then removed."""
        archive = self.folder / "adapter.tar.gz"
        with tarfile.open(archive) as tar:
            names = tar.getnames()
        archive.unlink()
        return [Path(name).name for name in names]


def block(guide: str, name: str) -> str:
    """The one block of a guide with this name."""
    text = (ROOT / guide if guide == "README.md" else DOCS / guide).read_text(encoding="utf-8")
    (found,) = re.findall(rf"```(?:sh|python|json) {name}\n(.*?)```", text, re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def walker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walker]:
    state, folder = tmp_path_factory.mktemp("walked"), tmp_path_factory.mktemp("walker")
    facts = made_up_facts(FACTS, seed=1)
    make_tiny_model(state / "models" / "tiny", facts, seed=1)
    _copy_embedder(state / "models")
    (folder / "facts.jsonl").write_text("".join(json.dumps({"question": q, "answers": [a]}) + "\n" for q, a in facts))
    turns = ([{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in facts)
    (folder / "chat.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in turns))
    spec = {"base_model": "tiny", "dataset": "DATASET", **SETTINGS}
    (folder / "job.json").write_text(json.dumps(spec))
    command = folder / "bin" / "craft"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m craft_cli "$@"\n')
    command.chmod(0o755)
    models = {"CRAFT_MODELS_DIR": str(state / "models")}
    with running(state, CRAFT_GATEWAY__OPERATOR_KEY=OPERATOR_KEY, **models) as up:
        environment = os.environ | {
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "CRAFT_URL": up.url,
        }
        operator = Walker(folder, environment)
        key = operator.shell(block("first-job.md", "operator") + 'echo "$CRAFT_API_KEY"', OPERATOR_KEY=OPERATOR_KEY)
        yield Walker(folder, environment | {"CRAFT_API_KEY": key.strip().splitlines()[-1]})


def test_with_curl_only(walker: Walker) -> None:
    shown = walker.shell(block("first-job.md", "curl"), PATH="/usr/bin:/bin")
    assert "event: job.succeeded" in shown
    assert "adapter_config.json" in walker.adapter()
    assert "<!doctype html>" in (walker.folder / "report.html").read_text().lower()


def test_with_curl_a_refusal_is_shown_and_nothing_more_is_done(walker: Walker) -> None:
    refused = Walker(walker.folder / "refused", walker.environment | {"PATH": "/usr/bin:/bin"})
    refused.folder.mkdir()
    rows = '{"question": "What is the capital of Kenya?", "answers": ["Nairobi"]}\n'
    (refused.folder / "facts.jsonl").write_text(
        rows + '{"question": "Who wrote Effi Briest?", "answers": ["Fontane"]}\n'
    )
    (refused.folder / "job.json").write_text((walker.folder / "job.json").read_text())
    script = block("first-job.md", "curl")
    told = refused.run("bash", "-c", script, code=1)
    assert '"hint"' in told.stderr
    assert "rehears" in told.stderr
    assert not (refused.folder / "report.html").exists()
    # Somebody corrects the files and runs it again.
    (refused.folder / "facts.jsonl").write_text('{"question": "no answers"}\n')
    assert '"line"' in refused.run("bash", "-c", script, code=1).stderr
    (refused.folder / "facts.jsonl").write_text((walker.folder / "facts.jsonl").read_text())
    assert "event: job.succeeded" in refused.run("bash", "-c", script).stdout
    assert "adapter_config.json" in refused.adapter()


def test_the_readmes_own_commands_work(walker: Walker, tmp_path: Path) -> None:
    reader = Walker(tmp_path, walker.environment | {"PATH": "/usr/bin:/bin"})
    for path, source in (
        (".venv/bin/craft", walker.folder / "bin" / "craft"),
        ("services/cli/craft_cli/data/open_ended.jsonl", walker.folder / "facts.jsonl"),
        ("shared/docs/first-job.json", walker.folder / "job.json"),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / path)
    script = block("README.md", "first-job")
    told = reader.run("bash", "-euo", "pipefail", "-c", script)
    assert told.stdout.startswith("stage ")
    assert "Next:" in told.stderr
    assert "<!doctype html>" in (tmp_path / "report.html").read_text().lower()
    assert "adapter_config.json" in reader.adapter()


def test_the_shipped_questions_are_those_of_the_guide(walker: Walker, tmp_path: Path) -> None:
    run = subprocess.run(
        ["bash", "-euc", f'{block("first-job.md", "files")}mv facts.jsonl "$TARGET"'],
        cwd=ROOT,
        env=walker.environment | {"TARGET": str(tmp_path)},
        check=False,
    )
    assert run.returncode == 0
    assert len((tmp_path / "facts.jsonl").read_text().splitlines()) == 400
    assert "dset_" in walker.run("craft", "datasets", "add", str(tmp_path / "facts.jsonl")).stdout


def test_with_the_command_only(walker: Walker) -> None:
    shown = walker.shell(block("first-job.md", "cli"))
    assert "stage " in shown
    assert "over-refusal" in shown
    assert "\x1b" not in shown
    assert "adapter_model.safetensors" in walker.adapter()


def test_with_the_client_only(walker: Walker) -> None:
    shown = walker.run(sys.executable, "-c", block("first-job.md", "sync")).stdout
    assert "job.succeeded" in shown
    assert "adapter_model.safetensors" in walker.adapter()
    assert "cjob_" in walker.run(sys.executable, "-c", block("first-job.md", "async")).stdout
    assert "adapter_config.json" in walker.adapter()


def test_with_openais_client_only(walker: Walker) -> None:
    snippet = block("moving-from-openai.md", "openai")
    snippet = re.sub(r"^MODEL = .*$", 'MODEL = "tiny"', snippet, flags=re.MULTILINE)
    snippet = re.sub(r"^CRAFT = .*$", f"CRAFT = {SETTINGS}", snippet, flags=re.MULTILINE)
    url, key = walker.environment["CRAFT_URL"], walker.environment["CRAFT_API_KEY"]
    openai = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key}
    shown = walker.run(sys.executable, "-c", snippet, environment=openai).stdout
    assert "succeeded None None" in shown
    assert "/adapter" in shown


def test_a_profile_has_the_address_and_the_key(walker: Walker) -> None:
    bare = {"CRAFT_URL": "", "CRAFT_API_KEY": ""}
    key, url = walker.environment["CRAFT_API_KEY"], walker.environment["CRAFT_URL"]
    script = f'printf "%s\\n" "$KEY" | craft login --profile work --url {url}'
    assert "in team search" in walker.shell(script, **bare, KEY=key)
    config = walker.folder / "config" / "craft" / "config.toml"
    assert (config.stat().st_mode & 0o777, key in config.read_text()) == (0o600, True)
    caller = json.loads(walker.run("craft", "me", "--json", "--profile", "work", environment=bare).stdout)
    assert (caller["team"], caller["actor"].startswith("ckey_")) == ("search", True)
    assert "401" in walker.run("craft", "me", "--json", code=5, environment=bare | {"CRAFT_URL": url}).stderr


@pytest.mark.parametrize(
    ("words", "exit_code", "problem"),
    [
        (["jobs", "get", "cjob_01jgywz3x4v5q6r7s8t9vawbxc"], 4, "not_found"),
        (["teams", "ls"], 5, "forbidden"),
        (["keys", "create", "x"], 5, "forbidden"),
        (["jobs", "submit", "facts.jsonl"], 2, "usage"),
        (["jobs", "watch", ""], 2, "request_invalid"),
        (["jobs", "get", "no such name"], 4, "not_found"),
        (["jobs", "submit", "job.json"], 2, "request_invalid"),
        (["me", "--url", "http://127.0.0.1:9"], 3, "unreachable"),
        (["jobs", "nonsense"], 2, "usage"),
        (["me", "--profile", "nobody"], 2, "usage"),
    ],
)
def test_an_error_is_a_problem_document_with_its_exit_code(
    walker: Walker, words: list[str], exit_code: int, problem: str
) -> None:
    finished = walker.run("craft", *words, "--json", code=exit_code)
    assert json.loads(finished.stderr)["code"] == problem
    assert (finished.stdout, "Traceback" in finished.stderr) == ("", False)
