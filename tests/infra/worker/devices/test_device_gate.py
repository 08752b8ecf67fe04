"""A worker takes no stage before its device has passed the self-test."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.infra.worker.real_worker import PATIENCE_SECONDS, SmallCoordinator, running

from craft.contracts.stages.kinds import Service
from craft.errors import DeviceFailed
from craft.infra.device.report import DeviceReport
from craft.infra.settings.settings import Settings
from craft.infra.storage.sick_workers import SickWorkers
from craft.infra.worker.device_gate import self_tested, wait_until_well

WELL = DeviceReport(name="NVIDIA H200", devices=1, total_bytes=139 * 2**30)
SICK = DeviceReport(failure="The device failed: CUDA error: uncorrectable ECC error encountered")


def program(code: str) -> Sequence[str]:
    return (sys.executable, "-c", code)


def prints(report: DeviceReport) -> str:
    return f"import sys; print('a library says hello'); print({report.model_dump_json()!r})"


def outcome(code: str, *, timeout_seconds: float = PATIENCE_SECONDS) -> DeviceReport:
    return self_tested(os.environ, program=program(code), timeout_seconds=timeout_seconds)


def test_a_report_without_a_failure_is_the_result() -> None:
    assert outcome(prints(WELL)) == WELL


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (prints(SICK), "uncorrectable ECC"),
        ("import os, signal; signal.signal(11, signal.SIG_DFL); os.kill(os.getpid(), 11)", "killed by SIGSEGV"),
        ("raise SystemExit('ModuleNotFoundError: No module named torch')", "exit code 1: ModuleNotFoundError"),
        ("print('{}garbage')", "exit code 0: {}garbage"),
        ("pass", "exit code 0"),
    ],
)
def test_every_other_end_of_the_self_test_is_a_failed_device(code: str, told: str) -> None:
    with pytest.raises(DeviceFailed, match=told):
        outcome(code)


def test_a_self_test_that_hangs_is_killed_and_failed() -> None:
    began = time.monotonic()
    with pytest.raises(DeviceFailed, match="did not end"):
        outcome("import time; time.sleep(600)", timeout_seconds=0.5)
    assert time.monotonic() - began < PATIENCE_SECONDS


def test_a_program_that_cannot_be_started_is_a_failed_device() -> None:
    with pytest.raises(DeviceFailed, match="cannot be started"):
        self_tested(os.environ, program=("/nonexistent/python",), timeout_seconds=1)


def test_the_gate_opens_after_growing_pauses_when_the_device_is_well_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="craft.worker")
    tries = tmp_path / "tries"
    heals = (
        f"import pathlib; p = pathlib.Path({str(tries)!r}); n = len(p.read_text()) if p.exists() else 0\n"
        f"p.write_text('x' * (n + 1))\n"
        f"print({SICK.model_dump_json()!r} if n < 3 else {WELL.model_dump_json()!r})"
    )
    before, pauses, told = signal.getsignal(signal.SIGTERM), list[float](), list[str]()
    try:
        report = wait_until_well(lambda: outcome(heals), wait=pauses.append, on_failure=told.append)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert report == WELL
    assert pauses == [5.0, 10.0, 20.0]
    assert told == [SICK.failure] * 3
    logged = caplog.records[-1]
    assert (logged.message, vars(logged)["device"], vars(logged)["devices"]) == ("device_well", "NVIDIA H200", 1)


def test_a_worker_with_a_sick_device_never_claims_says_so_in_its_log_and_stops_at_once(tmp_path: Path) -> None:
    coordinator = SmallCoordinator()
    try:
        # This machine has no GPU that works.
        with running(tmp_path, coordinator.port, service=Service.TRAINING, CRAFT_TRAINING__DEVICE="cuda") as worker:
            log, notes = tmp_path / "worker.log", SickWorkers(Settings(state_dir=tmp_path).resolved_artifacts_dir)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not notes.of(Service.TRAINING):
                assert time.monotonic() < deadline, log.read_text()
                assert worker.poll() is None, log.read_text()
                time.sleep(0.1)
            assert "CRAFT_TRAINING__DEVICE=cpu" in log.read_text()
            [note] = notes.of(Service.TRAINING)
            assert "GPU cannot be used" in note.words
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
        assert coordinator.calls.empty()
    finally:
        coordinator.close()


def test_the_worker_itself_never_imports_torch_for_its_self_test() -> None:
    code = "import sys, craft.infra.worker.worker; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"
