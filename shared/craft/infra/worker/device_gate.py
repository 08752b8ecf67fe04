"""Keeps a worker from all stages until its device has passed the self-test."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from pydantic import ValidationError

from craft.errors import DeviceFailed
from craft.infra.backoff import exponential_backoff
from craft.infra.device.report import DeviceReport

_TIMEOUT_SECONDS = 180.0
"""The first import of torch from a slow disk takes a minute, and a driver's first start another."""
_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 300.0
_MAX_WORDS_LENGTH = 500
_log = logging.getLogger("craft.worker")


def wait_until_well(
    test: Callable[[], DeviceReport],
    *,
    wait: Callable[[float], None] = time.sleep,
    on_failure: Callable[[str], None] = lambda _: None,
) -> DeviceReport:
    """Run the self-test, again after growing pauses until it passes, and return its report.

    `test` raises DeviceFailed; `on_failure` gets the words of each failure. A signal to stop ends the process
    meanwhile.
    """
    # As a container's first process it would ignore a signal for which it has no handler.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    failures = 0
    while True:
        try:
            report = test()
        except DeviceFailed as error:
            failures += 1
            pause = exponential_backoff(failures, first=_FIRST_PAUSE_SECONDS, longest=_LONGEST_PAUSE_SECONDS)
            told = {"detail": error.message, "failures": failures, "next_test_in_seconds": pause}
            _log.error("device_not_well", extra=told)
            on_failure(error.message)
            wait(pause)
        else:
            # A record of the log has a `name` of its own.
            shown = report.model_dump(exclude={"failure", "name"})
            _log.info("device_well", extra={"after_failures": failures, "device": report.name, **shown})
            return report


def self_test(environment: Mapping[str, str], *, setting: str, python: str = sys.executable) -> DeviceReport:
    """The report on the device that `environment` shows. Raises DeviceFailed as `self_tested`.

    `setting` names the variable that chooses the device.
    """
    program = (python, "-m", "craft.infra.device.self_test", str(os.getpid()), setting)
    return self_tested(environment, program=program, timeout_seconds=_TIMEOUT_SECONDS)


def self_tested(environment: Mapping[str, str], *, program: Sequence[str], timeout_seconds: float) -> DeviceReport:
    """The report of the self-test. Raises DeviceFailed where it fails, crashes, hangs or cannot be started."""
    try:
        process = subprocess.Popen(  # noqa: S603 - our own module
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        raise DeviceFailed(f"The device's self-test cannot be started: {error}") from error
    try:
        output, errors = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        raise DeviceFailed(f"The device's self-test did not end within {timeout_seconds:g} s.") from None
    finally:
        _end(process)
    report = _parsed(output)
    if report is None:
        words = _last_line(errors) or _last_line(output)
        raise DeviceFailed(f"The device's self-test {_ending(process.returncode)}: {words}")
    if report.failure is not None:
        raise DeviceFailed(report.failure)
    return report


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process if it still runs. One that hangs in the driver cannot be killed, and is left behind."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _parsed(output: bytes) -> DeviceReport | None:
    try:
        return DeviceReport.model_validate_json(_last_line(output))
    except ValidationError:
        return None


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip()[-_MAX_WORDS_LENGTH * 4 :] if lines else ""


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"was killed by {-code}"
