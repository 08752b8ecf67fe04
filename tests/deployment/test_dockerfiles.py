"""The two Dockerfiles, for every SERVICE: small, pinned, not root, and made of files that exist."""

import fnmatch
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.deployment.files import IMAGES, ROOT, SERVICES, compose, compose_mount

from craft.infra.settings.settings import Settings

KNOWN = {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "LABEL", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
BASES = {"VLLM_IMAGE": r"vllm/vllm-openai:v0\.32\.0", "PYTHON_IMAGE": r"python:3\.11-slim-[a-z]+"}
VLLM = "inference.vllm"


@dataclass(frozen=True, slots=True)
class Instruction:
    stage: int
    """0 before the first FROM, 1 in the stages that build the environment, 2 in those of the image."""
    word: str
    rest: str


def parsed(build: str) -> list[Instruction]:
    """The instructions that make an image, in order; a stage's come after those of the stage that it starts from.

    FROM stands only where a chain of stages begins: its base is an image of others.
    """
    stages = stages_of(dockerfile(build).read_text().replace("${SERVICE}", build))
    image = list(stages)[-1]
    (source,) = {
        source for name in chain(stages, image) for word, rest in stages[name] for source in copied_from(word, rest)
    }
    found = [Instruction(0, word, rest) for word, rest in stages[""]]
    for number, last in ((1, source), (2, image)):
        base, *further = chain(stages, last)
        found += [Instruction(number, word, rest) for word, rest in stages[base]]
        found += [Instruction(number, word, rest) for name in further for word, rest in stages[name][1:]]
    return found


def stages_of(text: str) -> dict[str, list[tuple[str, str]]]:
    """By name the words and rests of a stage's instructions: comments dropped, continued lines joined."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found: dict[str, list[tuple[str, str]]] = {"": []}
    name = ""
    for line in kept.replace("\\\n", " ").splitlines():
        if line.strip():
            word, rest = line.strip().split(maxsplit=1)
            if word == "FROM":
                name = rest.partition(" AS ")[2] or "the image"
                assert name not in found, f"two stages are called {name}"
                found[name] = []
            found[name].append((word, re.sub(r"\s+", " ", rest)))
    return found


def chain(stages: dict[str, list[tuple[str, str]]], name: str) -> list[str]:
    """The stage and those that it starts from, the first one first."""
    base = stages[name][0][1].partition(" AS ")[0]
    return [*(chain(stages, base) if base in stages else ()), name]


def copied_from(word: str, rest: str) -> list[str]:
    """The stage that a COPY takes its files from, if it takes them from one."""
    return re.findall(r"--from=(\S+)", rest) if word == "COPY" else []


def of(instructions: list[Instruction], word: str, *, stage: int | None = None) -> list[str]:
    return [i.rest for i in instructions if i.word == word and stage in (None, i.stage)]


def dockerfile(build: str) -> Path:
    """Of `inference`, say, or of another build of the same service: `inference.vllm`."""
    _, dot, variant = build.partition(".")
    return ROOT / f"services/Dockerfile{dot}{variant}"


@pytest.fixture(params=[*IMAGES, VLLM])
def build(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def image(build: str) -> str:
    """The service."""
    return build.split(".")[0]


@pytest.fixture
def instructions(build: str) -> list[Instruction]:
    return parsed(build)


def test_every_instruction_is_known(instructions: list[Instruction]) -> None:
    assert {instruction.word for instruction in instructions} <= KNOWN


def test_the_base_is_pinned_by_tag(instructions: list[Instruction]) -> None:
    arguments = dict(rest.partition("=")[::2] for rest in of(instructions, "ARG", stage=0))
    bases = [re.sub(r" AS .*", "", rest) for rest in of(instructions, "FROM")]
    assert len(bases) == 2, "one stage builds, the other runs"
    assert len(set(bases)) == 1, "an environment runs on what it was made with"
    name = bases[0].removeprefix("${").removesuffix("}")
    assert re.fullmatch(BASES[name], arguments[name])


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


def test_versions_are_the_pinned_ones(build: str, instructions: list[Instruction]) -> None:
    installs = [command for rest in of(instructions, "RUN") for command in rest.split("&&") if "pip install" in command]
    assert all("-c shared/constraints.txt" in command for command in installs)
    # Beside vLLM nothing but what every service needs: an extra would bring a second torch.
    assert installs[-1].endswith(" ." if build == VLLM else f'".[{build}]"')
    assert "--build-constraint shared/constraints.txt" in installs[-1]


def test_torch_may_come_from_another_index(build: str, instructions: list[Instruction]) -> None:
    runs = " ".join(of(instructions, "RUN"))
    if build in {"inference", "scoring", "training"}:
        assert 'TORCH_INDEX_URL=""' in of(instructions, "ARG", stage=0)
        assert "TORCH_INDEX_URL" in of(instructions, "ARG", stage=1)
        assert '--no-deps ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"}' in runs
    else:
        assert "torch" not in runs


def test_commands_are_in_exec_form(build: str, image: str, instructions: list[Instruction]) -> None:
    (command,) = of(instructions, "CMD")
    module = "craft_inference.model_server" if build == VLLM else f"craft_{image}.api"
    assert json.loads(command) == ["python", "-m", module]
    # A base image's own entry point would take the command for its arguments.
    assert of(instructions, "ENTRYPOINT") == (["[]"] if build == VLLM else [])
    (health,) = of(instructions, "HEALTHCHECK")
    words = json.loads(health.split(" CMD ")[1])
    port = getattr(Settings(), "model_server" if build == VLLM else image).port
    assert words[:2] == ["python", "-c"]
    assert f"'http://127.0.0.1:{port}/healthz'" in words[2]


def test_the_exposed_port_is_the_one_that_listens_on_the_network(build: str, instructions: list[Instruction]) -> None:
    listening = {"gateway": "coordinator", VLLM: "model_server"}.get(build, build)
    listen = getattr(Settings(), listening)
    assert of(instructions, "EXPOSE") == [str(listen.port)]


def test_nothing_secret_and_nothing_private_is_written_down(build: str) -> None:
    text = dockerfile(build).read_text()
    assert not re.search(r"(?i)password|secret|token|api_key", text)
    assert not re.search(r"https?://(?!127\.0\.0\.1)", text), "no registry and no mirror"
    assert "@" not in text
    assert not re.search(r"(?i)\blatest\b|\bADD\b|\bsudo\b|curl|wget", text)


def test_every_dockerfile_is_looked_at() -> None:
    assert set(ROOT.rglob("services/**/Dockerfile*")) == {dockerfile(build) for build in (*IMAGES, VLLM)}
    assert set(IMAGES) == {"gateway", *SERVICES}


BUILT = {name: service for name, service in compose()["services"].items() if "build" in service}


@pytest.mark.parametrize("name", sorted(BUILT))
def test_a_volume_belongs_to_our_user_whoever_mounts_it_first(name: str) -> None:
    """A named volume takes over the owner of the folder under it, which the image must have, or it is root's."""
    text = " ".join(of(parsed(BUILT[name]["build"].get("args", {}).get("SERVICE", VLLM)), "RUN", stage=2))
    folders = text.split("install -d -o craft -g craft -m 0750")[1].split()
    mounted = dict(compose_mount(volume) for volume in BUILT[name].get("volumes", ()))
    assert set(mounted) <= set(folders)


def test_the_images_with_torch_differ_in_their_names_only() -> None:
    bare = set()
    for image in ("inference", "scoring", "training"):
        # Only one of them can train on weights of 4 bits.
        same = [i for i in parsed(image) if "NF4" not in i.rest]
        text = "\n".join(f"{i.stage} {i.word} {i.rest}" for i in same).replace(image, "NAME")
        text = text.replace(str(getattr(Settings(), image).port), "PORT")
        # Only two of them compute on GPUs.
        bare.add(text.replace(" NVIDIA_DRIVER_CAPABILITIES=compute,utility", ""))
    assert len(bare) == 1


def test_only_images_that_load_models_stay_away_from_the_hub() -> None:
    offline = {image for image in IMAGES if any("HF_HUB_OFFLINE=1" in env for env in of(parsed(image), "ENV"))}
    assert offline == {"inference", "scoring", "training"}, "the gateway publishes to the hub"


def test_only_the_image_of_training_may_have_bitsandbytes_and_only_if_it_is_asked_for() -> None:
    with_it = {image for image in IMAGES if any("bitsandbytes" in run for run in of(parsed(image), "RUN"))}
    assert with_it == {"training"}
    [run] = [run for run in of(parsed("training"), "RUN") if "bitsandbytes" in run]
    assert run.startswith('[ -z "$NF4" ] ||')
    assert 'NF4=""' in of(parsed("training"), "ARG", stage=1)


def test_a_build_says_which_service_it_is_of() -> None:
    arguments = of(parsed("gateway"), "ARG", stage=0)
    assert "SERVICE" in arguments, "a default would give one service's name to another's image"


def test_vllms_own_environment_is_left_alone() -> None:
    instructions = parsed(VLLM)
    runs = " ".join(of(instructions, "RUN"))
    assert "venv --without-pip /opt/craft" in runs
    assert all(
        "/opt/craft/bin/python" in command
        for command in runs.split("&&")
        if "pip" in command and " install " in command
    )
    (environment,) = of(instructions, "ENV", stage=2)
    values = dict(word.split("=", 1) for word in environment.split())
    python = values["CRAFT_INFERENCE__VLLM__PYTHON"]
    assert f"{python} -c \"from importlib.metadata import version; assert version('vllm')" in runs
    assert not python.startswith("/opt/craft")


def test_what_vllm_compiles_lands_in_the_volume() -> None:
    (environment,) = of(parsed(VLLM), "ENV", stage=2)
    values = dict(word.split("=", 1) for word in environment.split())
    for name in ("HOME", "VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR"):
        assert values[name].startswith("/var/cache/craft"), name
    mounts = [mount.split(":") for mount in compose()["services"]["model-server"]["volumes"]]
    assert ["kernels", "/var/cache/craft"] in mounts
    assert "/var/cache/craft" not in compose()["services"]["model-server"]["tmpfs"], "programs cannot be loaded from it"


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
