"""The groups of checks, each run in a process of its own: a hang, a crash or a poisoned device ends one group only.

python3 -m tests.gpu.rig.groups NAME MODULE DEVICE SIZE SCRATCH ROWS
"""

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.gpu.rig.checks import Bench, CheckGroup, CheckRow, run_check

from craft.infra.device.pinning import pinned

GROUPS = (
    CheckGroup("machine", "tests.gpu.measurements.machine", seconds=40, small_seconds=600),
    CheckGroup("packing", "tests.gpu.measurements.packing", seconds=60, small_seconds=600),
    CheckGroup("interruption", "tests.gpu.measurements.interruption", seconds=90, small_seconds=600),
    CheckGroup("memory", "tests.gpu.measurements.memory", seconds=100, small_seconds=600),
    CheckGroup("full memory", "tests.gpu.measurements.full_memory", seconds=60, small_seconds=600),
    CheckGroup("trl", "tests.gpu.measurements.against_trl", seconds=130, small_seconds=600),
)
_PROBE = (
    "import json, torch; gpu = torch.cuda.is_available(); "
    "print(json.dumps([gpu, torch.cuda.get_device_name(0) if gpu else '']))"
)
_PROBE_SECONDS = 180


@dataclass(frozen=True, slots=True)
class GroupRun:
    """The rows of all groups, with the machine and the form in words."""

    machine: str
    form: str
    rows: list[CheckRow]


def run_groups(only: Sequence[str], *, small: bool, scratch: Path) -> GroupRun:
    """Run the groups one after another, all of them if `only` is empty. Raises SystemExit for an unknown name."""
    unknown = set(only) - {group.name for group in GROUPS}
    if unknown:
        raise SystemExit(f"There is no group {min(unknown)}. Groups: {', '.join(group.name for group in GROUPS)}.")
    gpu, name = _probe()
    bench = Bench("cuda" if gpu else "cpu", small=small or not gpu, scratch=scratch)
    rows: list[CheckRow] = []
    for group in GROUPS:
        if not only or group.name in only:
            rows += run_apart(group, bench)
    return GroupRun(
        machine=name or f"CPU ({os.cpu_count()} x {platform.machine()})",
        form="small form" if bench.small else "full form",
        rows=rows,
    )


def run_apart(group: CheckGroup, bench: Bench) -> list[CheckRow]:
    """Run one group in a process. What it did not finish within its budget is a broken row."""
    scratch = bench.scratch / group.name
    scratch.mkdir(parents=True, exist_ok=True)
    file = scratch / "rows.jsonl"
    file.touch()
    words = [group.name, group.module, bench.device, "small" if bench.small else "full", str(scratch), str(file)]
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.gpu.rig.groups", *words],
        start_new_session=True,
        # One GPU, as a worker's child: with two the Trainer would split batches.
        env=pinned(os.environ, index=0, setting="CUDA_VISIBLE_DEVICES") if bench.on_gpu else None,
    )
    ended = ""
    try:
        code = child.wait(group.budget(bench))
        if code:
            ended = f"the process ended with {code}"
    except subprocess.TimeoutExpired:
        ended = f"not finished within {group.budget(bench):g} s"
    finally:
        # Also what it started: a child that a check was about to kill.
        _kill_group(child)
    rows = [CheckRow.model_validate_json(line) for line in file.read_text(encoding="utf-8").splitlines()]
    if ended or not rows:
        last = rows[-1].check if rows else "none"
        words_left = f"{ended or 'no rows'}; last finished: {last}"
        rows.append(
            CheckRow(group=group.name, check="all", measured=words_left, bound="finishes", ok=False, seconds=0.0)
        )
    return rows


def run_here(group: CheckGroup, bench: Bench, file: Path) -> None:
    """Run a group's checks in this process, and append each row as soon as it is known."""
    for check in group.checks(bench):
        row = run_check(group.name, check)
        with file.open("a", encoding="utf-8") as rows:
            rows.write(row.model_dump_json() + "\n")


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    child.wait()


def _probe() -> tuple[bool, str]:
    """Whether torch sees a GPU, and its name. In a process, so that this one holds no memory of the device."""
    command = [sys.executable, "-c", _PROBE]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"torch does not start here within {_PROBE_SECONDS} s: the driver may hang.") from None
    if done.returncode:
        raise SystemExit(f"torch does not start here:\n{done.stderr.decode(errors='replace')[-2000:]}")
    gpu, name = json.loads(done.stdout.splitlines()[-1])
    return bool(gpu), str(name)


if __name__ == "__main__":
    _name, _module, _device, _size, _scratch, _file = sys.argv[1:]
    run_here(
        CheckGroup(_name, _module, 0, 0), Bench(_device, small=_size == "small", scratch=Path(_scratch)), Path(_file)
    )
