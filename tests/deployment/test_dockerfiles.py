"""Dockerfiles: small, pinned, not root, and made of files that exist."""

import fnmatch
import json
import re
from dataclasses import dataclass

import pytest
from tests.deployment.files import IMAGES, ROOT, SERVICES

from craft.infra.settings import Settings

KNOWN = {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "EXPOSE", "HEALTHCHECK", "CMD"}


@dataclass(frozen=True, slots=True)
class Instruction:
    stage: int
    """0 before the first FROM, then 1, 2 …"""
    word: str
    rest: str


def parsed(text: str) -> list[Instruction]:
    """The instructions in order: comments dropped, continued lines joined."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found: list[Instruction] = []
    stage = 0
    for line in kept.replace("\\\n", " ").splitlines():
        if line.strip():
            word, rest = line.strip().split(maxsplit=1)
            stage += word == "FROM"
            found.append(Instruction(stage, word, re.sub(r"\s+", " ", rest)))
    return found


def of(instructions: list[Instruction], word: str, *, stage: int | None = None) -> list[str]:
    return [i.rest for i in instructions if i.word == word and stage in (None, i.stage)]


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def instructions(image: str) -> list[Instruction]:
    return parsed((ROOT / f"services/{image}/Dockerfile").read_text())


def test_every_instruction_is_known(instructions: list[Instruction]) -> None:
    assert {instruction.word for instruction in instructions} <= KNOWN


def test_the_base_is_pinned_by_tag(instructions: list[Instruction]) -> None:
    arguments = dict(rest.split("=", 1) for rest in of(instructions, "ARG", stage=0))
    bases = [re.sub(r" AS .*", "", rest) for rest in of(instructions, "FROM")]
    assert len(bases) == 2, "one stage builds, the other runs"
    for base in bases:
        image = arguments[base.removeprefix("${").removesuffix("}")]
        assert re.fullmatch(r"python:3\.11-slim-[a-z]+", image)


def test_it_runs_as_nobody_in_particular(instructions: list[Instruction]) -> None:
    users = of(instructions, "USER", stage=2)
    assert users == ["10001:10001"]
    after = instructions[[i.word for i in instructions].index("USER") :]
    assert "RUN" not in {instruction.word for instruction in after}


def test_sources_exist_and_are_not_ignored(image: str, instructions: list[Instruction]) -> None:
    sources = [word for rest in of(instructions, "COPY", stage=1) for word in rest.split()[:-1]]
    for source in sources:
        assert (ROOT / source).exists()
        assert not ignored(source), f"{source} is not in the build context"
    assert f"services/{image}/craft_{image}" in sources
    others = {f"services/{name}/craft_{name}" for name in IMAGES} - {f"services/{image}/craft_{image}"}
    assert not others & set(sources), "an image holds its own service only"


def test_only_the_environment_reaches_the_final_stage(instructions: list[Instruction]) -> None:
    assert of(instructions, "COPY", stage=2) == ["--from=build /opt/craft /opt/craft"]


def test_versions_are_the_pinned_ones(image: str, instructions: list[Instruction]) -> None:
    installs = [command for rest in of(instructions, "RUN") for command in rest.split("&&") if "pip install" in command]
    assert all("-c shared/constraints.txt" in command for command in installs)
    assert installs[-1].endswith(f"'.[{image}]'")
    assert "--build-constraint shared/constraints.txt" in installs[-1]


def test_torch_may_come_from_another_index(image: str, instructions: list[Instruction]) -> None:
    runs = " ".join(of(instructions, "RUN"))
    if image in {"inference", "scoring", "training"}:
        assert 'TORCH_INDEX_URL=""' in of(instructions, "ARG", stage=0)
        assert "TORCH_INDEX_URL" in of(instructions, "ARG", stage=1)
        assert '--no-deps ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"}' in runs
    else:
        assert "torch" not in runs


def test_commands_are_in_exec_form(image: str, instructions: list[Instruction]) -> None:
    (command,) = of(instructions, "CMD")
    assert json.loads(command) == ["python", "-m", f"craft_{image}.api"]
    (health,) = of(instructions, "HEALTHCHECK")
    words = json.loads(health.split(" CMD ")[1])
    port = getattr(Settings(), image).port
    assert words[:2] == ["python", "-c"]
    assert f"'http://127.0.0.1:{port}/healthz'" in words[2]


def test_the_exposed_port_is_the_one_that_listens_on_the_network(image: str, instructions: list[Instruction]) -> None:
    settings = Settings()
    listen = settings.coordinator if image == "gateway" else getattr(settings, image)
    assert of(instructions, "EXPOSE") == [str(listen.port)]


def test_nothing_secret_and_nothing_private_is_written_down(image: str) -> None:
    text = (ROOT / f"services/{image}/Dockerfile").read_text()
    assert not re.search(r"(?i)password|secret|token|api_key", text)
    assert not re.search(r"https?://(?!127\.0\.0\.1)", text), "no registry and no mirror"
    assert "@" not in text
    assert not re.search(r"(?i)\blatest\b|\bADD\b|\bsudo\b|curl|wget", text)


def test_five_images() -> None:
    assert {path.parent.name for path in ROOT.glob("services/*/Dockerfile")} == {"gateway", *SERVICES}


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the build context: the last pattern that matches decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = path.split("/")
        heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        within = parts if "**/" in line else heads
        if any(len(head.split("/")) == len(pattern.split("/")) and fnmatch.fnmatch(head, pattern) for head in within):
            out = not line.startswith("!")
    return out


@pytest.mark.parametrize("path", [".env", ".git/config", ".craft/craft.db", "tests/core", "services/cli/secret.txt"])
def test_what_images_do_not_need_stays_out_of_the_context(path: str) -> None:
    assert ignored(path)


def test_compiled_files_stay_out_of_the_context() -> None:
    assert ignored("shared/craft/__pycache__/errors.cpython-311.pyc")
    assert not ignored("shared/craft/errors.py")
