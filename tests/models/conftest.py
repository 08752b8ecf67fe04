"""The models on their way, one after another, and the table of what passed at the end."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.models.random_families import FAMILIES, RandomFamily
from tests.models.way import LONG_QUESTIONS, Way

from craft.infra.models.architectures import REFUSED

_OUTCOMES = pytest.StashKey[dict[str, list[str]]]()
_LONG_LAYERS = 6


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="More layers, longer prompts, and bfloat16 too.")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_OUTCOMES] = {}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: with tiny models, threads only wait for one another, longer on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long", default=False))


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, *, long: bool) -> Way:
    """A family's model; the tests of one family follow one another, so one model is in memory at a time."""
    family: RandomFamily = request.param
    root = tmp_path_factory.mktemp("way")
    return Way(family, root, layers=_LONG_LAYERS, questions=LONG_QUESTIONS) if long else Way(family, root)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Iterator[None]:
    """Keep each family's failed tests for the table."""
    report: Any = yield
    test: Any = item
    family = test.callspec.params.get("way") if hasattr(test, "callspec") else None
    if isinstance(family, RandomFamily):
        failed = item.config.stash[_OUTCOMES].setdefault(family.name, [])
        if report.failed:
            failed.append(test.originalname)
    return report  # type: ignore[no-any-return] # pytest gives the report back and takes it


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    outcomes = config.stash[_OUTCOMES]
    if not outcomes:
        return
    terminalreporter.section("architectures")
    for family in FAMILIES:
        if family.name in outcomes:
            said = "; ".join(outcomes[family.name]) or "ok"
            paths = f"{family.engine.value:14}{family.training.value:8}"
            terminalreporter.write_line(f"{family.name:26}{family.architecture:24}{paths}{said}")
    for name, (reason, _) in REFUSED.items():
        terminalreporter.write_line(f"{'':26}{name:32}refused: {reason}")
