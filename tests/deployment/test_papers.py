"""Papers name files, modules and make targets that exist; every decision is in the index; folders stay small."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "shared/decisions"
INDEX = DECISIONS / "README.md"
ADRS = sorted(DECISIONS.glob("[0-9]*.md"))
PAPERS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / ".github/CONTRIBUTING.md",
    ROOT / "k8s/README.md",
    *sorted((ROOT / "shared/docs").glob("*.md")),
    INDEX,
    *ADRS,
]
ELSEWHERE = {"gpu_model_runner.py", "publishing.env", "first-job.sh"}
"""Files that papers name and that are not in this repository: vLLM's, and what readers write."""
MAX_FILES = 12

LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#]+)(?:#[^)]*)?\)")
PATH = re.compile(r"(?<![\w./:-])(?:services|shared|tests|k8s|\.ci|\.github)/[\w./*{},-]*[\w*/}]")
TICKED = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|toml|env|yml|yaml|sh|txt)")
MODULE = re.compile(r"(?:craft_[a-z]+|craft\.(?:core|contracts|infra))(?:\.[a-z_]+)+")
RUN = re.compile(r"python -m ((?:craft|tests)[\w.]*)")
MAKE = re.compile(r"(?:^|`)make ([a-z][a-z-]*)", re.MULTILINE)
HEAD = re.compile(
    r"# (\d{4}: .+)\n\nDate: (\d{4}-\d\d-\d\d)\. Status: (proposed|accepted|replaced by \d{4})\.\n\n## Context\n"
)


def name_of(paper: Path) -> str:
    return paper.relative_to(ROOT).as_posix()


def files() -> set[str]:
    """Every file that a paper may name, by its path; without what was installed or built here."""
    tops = [ROOT / top for top in ("services", "shared", "tests", "k8s", ".ci", ".github")]
    below = (path for top in tops for path in top.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in (*below, *ROOT.iterdir()) if path.is_file()}


FILES = files()
PACKAGES = {path.name: path for path in (ROOT / "shared/craft", *ROOT.glob("services/*/craft_*"), ROOT / "tests")}


def expanded(path: str) -> Iterator[str]:
    """`a/{b,c}.py` names two."""
    braces = re.search(r"\{([^{}]*)\}", path)
    if braces is None:
        yield path
        return
    for choice in braces[1].split(","):
        yield from expanded(path[: braces.start()] + choice + path[braces.end() :])


def is_there(path: str) -> bool:
    return all(any(ROOT.glob(one.rstrip("/"))) for one in expanded(path))


def is_module(dotted: str) -> bool:
    top, *rest = dotted.split(".")
    where = PACKAGES[top].joinpath(*rest)
    return where.is_dir() or where.with_suffix(".py").is_file()


@pytest.mark.parametrize("paper", PAPERS, ids=name_of)
def test_every_link_leads_somewhere(paper: Path) -> None:
    dead = [link for link in LINK.findall(paper.read_text(encoding="utf-8")) if not (paper.parent / link).exists()]
    assert dead == []


@pytest.mark.parametrize("paper", PAPERS, ids=name_of)
def test_every_path_exists(paper: Path) -> None:
    missing = [path for path in PATH.findall(paper.read_text(encoding="utf-8")) if not is_there(path)]
    assert missing == []


@pytest.mark.parametrize("paper", PAPERS, ids=name_of)
def test_every_file_name_is_the_end_of_a_path(paper: Path) -> None:
    named = {found for found in TICKED.findall(paper.read_text(encoding="utf-8")) if FILE.fullmatch(found)}
    missing = {name for name in named - ELSEWHERE if not any(f"/{path}".endswith(f"/{name}") for path in FILES)}
    assert missing == set()


@pytest.mark.parametrize("paper", PAPERS, ids=name_of)
def test_every_module_exists(paper: Path) -> None:
    text = paper.read_text(encoding="utf-8")
    named = {found for found in TICKED.findall(text) if MODULE.fullmatch(found)} | set(RUN.findall(text))
    assert {module for module in named if not is_module(module)} == set()


@pytest.mark.parametrize("paper", PAPERS, ids=name_of)
def test_every_make_target_exists(paper: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(MAKE.findall(paper.read_text(encoding="utf-8"))) <= targets


@pytest.mark.parametrize("adr", ADRS, ids=name_of)
def test_a_decision_has_its_head_and_its_line_in_the_index(adr: Path) -> None:
    text = adr.read_text(encoding="utf-8")
    head = HEAD.match(text)
    assert head, "title, date, status, context: as the template of the index says"
    title, date, status = head.groups()
    assert title[:4] == adr.name[:4]
    assert "\n## Decision\n" in text
    assert f"| [{title}]({adr.name}) | {date} | {status} |" in INDEX.read_text(encoding="utf-8").splitlines()


def test_the_index_has_each_decision_once_in_order() -> None:
    listed = re.findall(r"^\| \[\d{4}: [^|]*\]\(([^)]*)\) \|", INDEX.read_text(encoding="utf-8"), re.MULTILINE)
    assert listed == [adr.name for adr in ADRS]


def test_a_folder_has_at_most_12_python_files() -> None:
    counts: dict[str, int] = {}
    for path in map(Path, FILES):
        folder = path.parent.as_posix()
        code = folder.startswith(("services/", "shared/craft", "tests"))
        if code and path.suffix == ".py" and path.name != "__init__.py" and not folder.endswith("migrations/versions"):
            counts[folder] = counts.get(folder, 0) + 1
    assert len(counts) > 50
    assert {folder: count for folder, count in counts.items() if count > MAX_FILES} == {}


def test_what_is_missing_is_seen() -> None:
    """The patterns above find what papers write."""
    text = "See `services/gateway/nowhere.py`, [a](../none.md), `make nothing`, `python -m craft_gateway.none`."
    assert [path for path in PATH.findall(text) if not is_there(path)] == ["services/gateway/nowhere.py"]
    assert LINK.findall(text) == ["../none.md"]
    assert MAKE.findall(text) == ["nothing"]
    assert [module for module in RUN.findall(text) if not is_module(module)] == ["craft_gateway.none"]
    assert is_there("services/gateway/craft_gateway/webhooks/{routes,registry}.py")
    assert not is_there("services/gateway/craft_gateway/webhooks/{routes,none}.py")
    assert is_there("services/*/craft_*/routes.py")
