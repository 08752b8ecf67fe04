"""The rig of the GPU check: no failure stops the other checks, and none is lost."""

import json
from pathlib import Path

import pytest
from tests.gpu.__main__ import main
from tests.gpu.rig.checks import Bench, CheckGroup, CheckRow
from tests.gpu.rig.groups import GROUPS, run_apart
from tests.gpu.rig.table import CheckReport, printed, write
from tests.gpu.rig.wheels import install_wheels

BUDGET_SECONDS = 8.0


def _run(scratch: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> list[CheckRow]:
    monkeypatch.setenv("GPU_CHECK_FAULT", fault)
    group = CheckGroup("faulty", "tests.gpu.rig.faulty_checks", seconds=0, small_seconds=BUDGET_SECONDS)
    return run_apart(group, Bench("cpu", small=True, scratch=scratch))


def _row(ok: bool | None, measured: str = "1") -> CheckRow:
    return CheckRow(group="g", check="c", measured=measured, bound="b | c", ok=ok, seconds=0.1)


def test_a_check_that_raises_is_broken_and_the_next_ones_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _run(tmp_path, "none", monkeypatch)
    assert [(row.check, row.ok) for row in rows] == [("raises", False), ("holds", True), ("fault", None)]
    assert "the device is on fire" in rows[0].measured


@pytest.mark.parametrize(("fault", "words"), [("hang", "not finished within 8 s"), ("die", "ended with -9")])
def test_a_process_without_an_end_is_a_broken_row_after_those_that_it_finished(
    fault: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _run(tmp_path, fault, monkeypatch)
    assert [row.check for row in rows] == ["raises", "holds", "all"]
    assert rows[-1].ok is False
    assert words in rows[-1].measured


def test_a_group_that_cannot_be_imported_is_a_broken_row(tmp_path: Path) -> None:
    group = CheckGroup("absent", "tests.gpu.measurements.absent", seconds=0, small_seconds=BUDGET_SECONDS)
    (row,) = run_apart(group, Bench("cpu", small=True, scratch=tmp_path))
    assert row.ok is False


def test_rows_that_are_not_judged_break_nothing(tmp_path: Path) -> None:
    report = CheckReport(machine="CPU", form="small form", seconds=1.0, rows=[_row(None), _row(True)])
    assert report.broken == []
    assert "all 1 bounds hold" in printed(report)


def test_the_table_is_written_as_json_and_markdown(tmp_path: Path) -> None:
    report = CheckReport(machine="CPU", form="small form", seconds=1.0, rows=[_row(True), _row(False, "2\n3")])
    write(report, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "gpu-check.json").read_text())["rows"][1]["ok"] is False
    text = (tmp_path / "out" / "gpu-check.md").read_text()
    assert "1 of 2 bounds broken" in text
    assert "| g: c | 2 3 | b \\| c | BROKEN |" in text


def test_the_whole_check_takes_eight_minutes_of_a_gpu_at_most() -> None:
    assert sum(group.seconds for group in GROUPS) <= 8 * 60


def test_an_unknown_group_is_refused_with_the_names() -> None:
    with pytest.raises(SystemExit, match=r"no group nonsense. Groups: machine, packing"):
        main(["--only", "nonsense"])


def test_a_folder_without_wheels_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="make gpu-wheels"):
        install_wheels(tmp_path, tmp_path / "target")
