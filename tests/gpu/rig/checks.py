"""A check measures one thing and judges it by one bound; a group of checks shares one process and one time budget."""

import importlib
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Bench:
    """The place of a measurement. `small` shapes need minutes of a CPU; the others fill a large GPU."""

    device: str
    small: bool
    scratch: Path

    @property
    def on_gpu(self) -> bool:
        """True on a CUDA device."""
        return self.device == "cuda"


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement in words. `holds` says whether the bound holds; None is printed and not judged."""

    words: str
    holds: bool | None


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table. `measure` may raise: the bound is broken then."""

    name: str
    bound: str
    measure: Callable[[], Measured]


@dataclass(frozen=True, slots=True)
class CheckGroup:
    """Checks that share a process: those that `checks(bench)` of a module gives.

    `seconds` is the time for all of them on a GPU, `small_seconds` in the small form.
    """

    name: str
    module: str
    seconds: float
    small_seconds: float

    def checks(self, bench: Bench) -> Sequence[Check]:
        """The group's checks. The module is imported only here, because its libraries may be what is broken."""
        found: Sequence[Check] = importlib.import_module(self.module).checks(bench)
        return found

    def budget(self, bench: Bench) -> float:
        """The time that the group may take."""
        return self.small_seconds if bench.small else self.seconds


class CheckRow(BaseModel):
    """A finished check. `ok` is None where nothing is judged."""

    group: str
    check: str
    measured: str
    bound: str
    ok: bool | None
    seconds: float


def run_check(group: str, check: Check) -> CheckRow:
    """Measure and judge. An exception becomes a broken row, so that the next check runs."""
    began = time.perf_counter()
    try:
        measured = check.measure()
    except Exception as error:  # every failure is a row of the table
        traceback.print_exc()
        measured = Measured(f"{type(error).__name__}: {str(error)[:300]}", holds=False)
    return CheckRow(
        group=group,
        check=check.name,
        measured=measured.words,
        bound=check.bound,
        ok=measured.holds,
        seconds=round(time.perf_counter() - began, 1),
    )
