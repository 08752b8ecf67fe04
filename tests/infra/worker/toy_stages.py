"""Stages for tests of the worker, imported by the child process. `parameters.job["do"]` names the action."""

import ctypes
import errno
import hashlib
import logging
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from craft.contracts.stages.artifacts import Cost, StageResult
from craft.contracts.stages.kinds import StageKind
from craft.contracts.stages.parameters import ReportParameters
from craft.errors import DatasetInvalid, ErrorDetail, RehearsalTooShort
from craft.infra.stage.context import StageContext, StageFunctions


def stage_functions() -> StageFunctions:
    """The counterpart of a service's `wiring.stage_functions`."""
    return {StageKind.REPORT: _toy}


def busy_functions() -> StageFunctions:
    """Each stage opens the pipe `TOY_BEGAN`, and then silently does the action that `TOY_DEED` names."""
    return dict.fromkeys(StageKind, _BUSY[os.environ["TOY_DEED"]])


def _toy(parameters: ReportParameters, context: StageContext) -> StageResult:
    return _DEEDS[str(parameters.job["do"])](parameters, context)


def _write(parameters: ReportParameters, context: StageContext) -> StageResult:
    read = "".join((folder / "text").read_text() for _, folder in sorted(context.inputs.items()))
    (context.output / "text").write_text(f"{read}{parameters.job.get('text', '')}")
    print("written")
    print("to standard error", file=sys.stderr)
    context.progress(1, 2, {"loss": 0.5})
    context.progress(2, 2, {"loss": float("nan")})
    counts = {"pid": os.getpid(), "group": os.getpgrp()}
    return StageResult(counts=counts, metrics={"ok": 1.0, "bad": float("inf")}, cost=Cost(generated_tokens=7))


def _count(parameters: ReportParameters, context: StageContext) -> StageResult:
    for step in range(200_000):
        context.progress(step + 1, 200_000)
    return StageResult()


def _babble(parameters: ReportParameters, context: StageContext) -> StageResult:
    for line in range(3000):
        print("line", line)
    print("a\rb\r", end="")
    print("\x1b[31mred\x1b[0m \u202ebidi")
    print("x" * 100_000)
    os.write(1, b"\xff no line break")
    return StageResult()


def _refuse(parameters: ReportParameters, context: StageContext) -> StageResult:
    raise DatasetInvalid(
        "One row cannot be used.",
        hint="Mend it.",
        param="dataset",
        details=[ErrorDetail("empty", field="question", line=3, excerpt="''")],
    )


def _short(parameters: ReportParameters, context: StageContext) -> StageResult:
    raise RehearsalTooShort("Two steps.", hint="More rows.")


def _defect(parameters: ReportParameters, context: StageContext) -> StageResult:
    raise ValueError("a defect")


def _no_memory(parameters: ReportParameters, context: StageContext) -> StageResult:
    raise MemoryError


def _hoard(parameters: ReportParameters, context: StageContext) -> StageResult:
    blocks = [bytes([number % 251 + 1]) * 2**25 for number in range(256)]
    return StageResult(counts={"bytes": sum(map(len, blocks))})


def _reserve(parameters: ReportParameters, context: StageContext) -> StageResult:
    """Reserve a tebibyte of addresses and hold nothing, as CUDA does."""
    private, anonymous, no_reserve = 0x02, 0x20, 0x4000
    with mmap.mmap(-1, 2**40, flags=private | anonymous | no_reserve, prot=mmap.PROT_READ) as reserved:
        time.sleep(1.0)  # the worker looks meanwhile
        return StageResult(counts={"bytes": len(reserved)})


def _share(parameters: ReportParameters, context: StageContext) -> StageResult:
    """Hold 400 MiB in a process that shares them with two of its own for some looks of the worker."""
    kept = b"x" * (400 * 2**20)
    children = [os.fork()]
    if children[0]:
        children.append(os.fork())
    if 0 in children:
        time.sleep(1.0)
        os._exit(0)
    for child in children:
        os.waitpid(child, 0)
    return StageResult(counts={"bytes": len(kept)})


def _oom_score(parameters: ReportParameters, context: StageContext) -> StageResult:
    print(Path("/proc/self/oom_score_adj").read_text())
    return StageResult()


def _ask_too_much(parameters: ReportParameters, context: StageContext) -> StageResult:
    return StageResult(counts={"bytes": len(bytearray(2**60))})


def _full(parameters: ReportParameters, context: StageContext) -> StageResult:
    raise OSError(errno.ENOSPC, "No space left on device")


def _full_weights(parameters: ReportParameters, context: StageContext) -> StageResult:
    raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


def _gpu(parameters: ReportParameters, context: StageContext) -> StageResult:
    raise type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})("CUDA out of memory")


def _device_fails(parameters: ReportParameters, context: StageContext) -> StageResult:
    from torch import AcceleratorError

    print("at work on the device")
    raise AcceleratorError("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronous.")


def _device_aborts(parameters: ReportParameters, context: StageContext) -> StageResult:
    print("terminate called after throwing an instance of 'c10::AcceleratorError'")
    print("  what():  CUDA error: an illegal memory access was encountered")
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGABRT)
    raise AssertionError("unreachable")


def _die(parameters: ReportParameters, context: StageContext) -> StageResult:
    print("last words")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _exit(parameters: ReportParameters, context: StageContext) -> StageResult:
    os._exit(3)


def _stubborn(parameters: ReportParameters, context: StageContext) -> StageResult:
    """Hangs, ignores SIGTERM, and has started another process."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    other = subprocess.Popen(["sleep", "1000"])
    context.progress(os.getpid(), other.pid)
    threading.Event().wait()
    raise AssertionError("unreachable")


def _long(parameters: ReportParameters, context: StageContext) -> StageResult:
    """Works until it is asked to stop, and then saves its work; the next attempt continues from there."""
    saved = context.checkpoint / "saved"
    if saved.exists():
        (context.output / "text").write_text("resumed")
        return StageResult()
    try:
        context.progress(0, os.getpid())
        threading.Event().wait()
    finally:
        saved.write_text("half")
    raise AssertionError("unreachable")


def _mutter(parameters: ReportParameters, context: StageContext) -> StageResult:
    """Prints a line, and then nothing more."""
    for line in range(10):
        print("line", line, flush=True)
    threading.Event().wait()
    raise AssertionError("unreachable")


def _numb(parameters: object, context: StageContext) -> StageResult:
    """Opens the pipe in one native call of many minutes; no signal handler runs before it returns."""
    ctypes.CDLL(None).system(b"trap '' TERM; : > \"$TOY_BEGAN\"; exec sleep 1000")
    raise AssertionError("unreachable")


def _steps(parameters: object, context: StageContext) -> StageResult:
    """Short steps, as in training. Asked to stop, it saves after the current step."""
    with context.stop.defer_stop():
        _say_begun()
        while not context.stop.requested:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000)
        (context.checkpoint / "saved").write_text("a whole step")
    raise AssertionError("unreachable")


def _spin(parameters: object, context: StageContext) -> StageResult:
    """Computes in Python, as between the tokens of a long reply."""
    _say_begun()
    while True:
        hashlib.sha256(b"token").digest()


def _poison(parameters: object, context: StageContext) -> StageResult:
    """Kills its process if the job's seed is 13; otherwise it ends at once."""
    if getattr(parameters, "seed", None) == 13:
        print("last words")
        os.kill(os.getpid(), signal.SIGKILL)
    return StageResult()


def _write_kind(parameters: object, context: StageContext) -> StageResult:
    """Writes the kind of the stage, and says how many inputs it read."""
    read = [folder / "text" for folder in context.inputs.values()]
    (context.output / "text").write_text(f"{getattr(parameters, 'kind', '')} of {sum(path.is_file() for path in read)}")
    return StageResult()


def _say_begun() -> None:
    with open(os.environ["TOY_BEGAN"], "wb"):  # noqa: PTH123 - opening a pipe waits for its reader
        pass


def _babble_and_die(parameters: ReportParameters, context: StageContext) -> StageResult:
    for line in range(2500):
        print("line", line)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _environment(parameters: ReportParameters, context: StageContext) -> StageResult:
    logging.getLogger("toy").info("logged")
    keys = sorted(name for name in os.environ if name.startswith("CRAFT_"))
    return StageResult(notes=[*keys, *("torch" for _ in sys.modules if _ == "torch")])


_DEEDS: Mapping[str, Callable[[ReportParameters, StageContext], StageResult]] = {
    "write": _write,
    "count": _count,
    "babble": _babble,
    "refuse": _refuse,
    "short": _short,
    "defect": _defect,
    "no_memory": _no_memory,
    "hoard": _hoard,
    "reserve": _reserve,
    "share": _share,
    "oom_score": _oom_score,
    "ask_too_much": _ask_too_much,
    "full": _full,
    "full_weights": _full_weights,
    "gpu": _gpu,
    "device_fails": _device_fails,
    "device_aborts": _device_aborts,
    "die": _die,
    "exit": _exit,
    "stubborn": _stubborn,
    "long": _long,
    "environment": _environment,
    "babble_and_die": _babble_and_die,
    "mutter": _mutter,
}
_BUSY: Mapping[str, Callable[[object, StageContext], StageResult]] = {
    "numb": _numb,
    "steps": _steps,
    "spin": _spin,
    "poison": _poison,
    "write_kind": _write_kind,
}
