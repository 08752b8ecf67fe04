"""What the README says is so: its commands exist, its paths exist, its request is accepted."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from craft.contracts.spec.jobs import JobSpec
from craft_cli.main import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVING = (ROOT / "shared/docs/serving.md").read_text(encoding="utf-8")


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_the_two_commands_come_first() -> None:
    first = README.split("```")[1]
    assert [line.split("#")[0].strip() for line in first.splitlines()[1:] if line] == ["make demo", "make test"]


@pytest.mark.parametrize(
    "words",
    re.findall(r"(?:^(?:\.venv/bin/)?|\$\()craft ([a-z]+ [a-z]+)", README + SERVING, re.MULTILINE),
)
def test_the_commands_exist(words: str) -> None:
    assert CliRunner().invoke(app, [*words.split(), "--help"]).exit_code == 0


def test_the_first_request_is_a_job() -> None:
    (body,) = re.findall(r"`(\{.*?\})`", README, re.DOTALL)
    spec = JobSpec.model_validate(json.loads(body.replace("dset_…", "dset_01jgywz3x4v5q6r7s8t9vawbxc")))
    assert spec.strategies == ["craft"]


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)|@(services/\S+)", README))
def test_the_files_it_links_exist(path: tuple[str, str]) -> None:
    assert (ROOT / (path[0] or path[1])).exists()


def tree() -> set[str]:
    """The paths of the map, without the slash at their end."""
    (block,) = [block for block in README.split("```") if "shared/craft/errors.py" in block]
    return {line.split("  ")[0].rstrip("/") for line in block.strip().splitlines()}


def test_the_tree_is_the_tree() -> None:
    assert {path for path in tree() if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("top", ["services", "shared", "shared/craft", "k8s", "tests"])
def test_the_tree_has_every_folder_of_two_levels(top: str) -> None:
    folders = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / top).iterdir()
        if path.is_dir() and not path.name.startswith(("__", "."))
    }
    assert folders - {"shared/craft"} <= tree()
