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


def test_the_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_the_two_commands_come_first() -> None:
    first = README.split("```")[1]
    assert [line.split("#")[0].strip() for line in first.splitlines()[1:] if line] == ["make demo", "make test"]


@pytest.mark.parametrize("words", re.findall(r"^\.venv/bin/craft ([a-z ]+?) [a-z_…-]*[.…]", README, re.MULTILINE))
def test_the_commands_exist(words: str) -> None:
    assert CliRunner().invoke(app, [*words.split(), "--help"]).exit_code == 0


def test_the_first_request_is_a_job() -> None:
    (body,) = re.findall(r"-d '(\{.*?\})'", README, re.DOTALL)
    spec = JobSpec.model_validate(json.loads(body.replace("dset_…", "dset_01jgywz3x4v5q6r7s8t9vawbxc")))
    assert spec.strategies == ["craft"]


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)\)|@(services/\S+)", README))
def test_the_files_it_links_exist(path: tuple[str, str]) -> None:
    assert (ROOT / (path[0] or path[1])).exists()


def test_the_tree_is_the_tree() -> None:
    (tree,) = [block for block in README.split("```") if "shared/craft/errors.py" in block]
    for line in tree.strip().splitlines():
        for path in line.split("  ")[0].split(", "):
            assert (ROOT / path.strip()).exists(), path
