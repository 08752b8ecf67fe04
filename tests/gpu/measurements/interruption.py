"""Training that is interrupted: a stop and a resume, and a SIGKILL after which the device's memory is free again."""

import os
import queue
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from tests.child_listener import ChildListener
from tests.gpu.rig.checks import Bench, Check, Measured
from tests.gpu.rig.shapes import JOB_ROWS, make_base, make_samples, tiny
from tests.gpu.rig.tuning_runs import apart, run, saved_steps

from craft.contracts.spec.jobs import TrainingSettings
from craft.contracts.stages.parameters import ModelRef, TrainerRef, TuneParameters
from craft.infra.process.memory import held_memory_bytes
from craft.infra.settings.worker import WorkerSettings
from craft.infra.stage.channel import Finished
from craft.infra.worker.child_process import StageWork
from craft.infra.worker.child_supervisor import WarmChild

_MAX_APART = 1e-3
_TIMES_NOISE = 3
"""On a GPU the backward pass of attention adds in an order that varies, so that two equal runs differ."""
_MAX_SECONDS = 10.0
_WAIT_SECONDS = 60.0
_LEFT_BYTES = 64 << 20
_LEAST_BYTES = 128 << 20
_STOPPED_AT, _STEPS = 7, 16
_WIRING = "tests.gpu.measurements.killed_stage:stage_functions"
SETTINGS = TrainingSettings(lora_r=8, batch_size=8, epochs=4, learning_rate=1e-3)


class _Killed(NamedTuple):
    held_bytes: int
    left_bytes: int
    seconds: float
    resumed_at: int


def checks(bench: Bench) -> Sequence[Check]:
    """Both are what a worker does to its child: SIGTERM when a job is paused, SIGKILL when it loses its lease."""
    return (
        Check(
            f"stop at step {_STOPPED_AT} of {_STEPS} and resume, against the uninterrupted run",
            f"the step after the saved one is next; adapter <= {_MAX_APART} apart, or {_TIMES_NOISE} x an equal run",
            partial(resume, bench),
        ),
        Check(
            "SIGKILL while tuning",
            f"memory back in <= {_MAX_SECONDS:g} s; the next attempt resumes",
            partial(kill, bench),
        ),
    )


def resume(bench: Bench) -> Measured:
    """A resume that starts again would do all steps; one that loses the optimiser's state ends at another adapter."""
    config = tiny()
    base = make_base(config, bench, dtype=torch.bfloat16 if bench.on_gpu else torch.float32)
    samples = make_samples(_STEPS * SETTINGS.batch_size // SETTINGS.epochs, JOB_ROWS, vocabulary=config.vocab_size)
    whole, again = (run(bench, base, samples, SETTINGS, folder=folder) for folder in ("whole", "again"))
    assert run(bench, base, samples, SETTINGS, folder="parts", stop_after=_STOPPED_AT) is None
    (saved,) = saved_steps(bench.scratch / "parts")
    rest = run(bench, base, samples, SETTINGS, folder="parts")
    assert whole is not None
    assert again is not None
    assert rest is not None
    difference, noise = apart(rest.weights, whole.weights), apart(again.weights, whole.weights)
    first, steps = rest.steps_done[0], len(rest.tuned.curve)
    continued = _STOPPED_AT <= saved == first - 1 < _STEPS == steps
    return Measured(
        f"saved at step {saved}, then step {first}, {steps} steps in the curve; adapter {difference:.1e} apart, "
        f"that of an equal run {noise:.1e}",
        holds=continued and difference <= max(_MAX_APART, _TIMES_NOISE * noise),
    )


def kill(bench: Bench) -> Measured:
    """The child's own memory while it tunes, what is left of it after SIGKILL, and the step that comes next."""
    killed = _kill(bench)
    return Measured(
        f"{killed.held_bytes / 2**20:.0f} MiB held, {killed.left_bytes / 2**20:.0f} MiB left after "
        f"{killed.seconds:.1f} s; resumed at step {killed.resumed_at}",
        holds=killed.held_bytes >= _LEAST_BYTES
        and killed.left_bytes <= _LEFT_BYTES
        and killed.seconds <= _MAX_SECONDS
        and killed.resumed_at > 0,
    )


def _kill(bench: Bench) -> _Killed:
    folder = bench.scratch / "killed"
    free = _free_bytes(bench)
    child, listener = _attempt(bench, folder, "first")
    try:
        _await_checkpoint(folder, listener)
        pid = child.pid
        assert pid is not None
        held = free - _free_bytes(bench) if bench.on_gpu else held_memory_bytes(pid)
        began = time.perf_counter()
        child.kill(grace_seconds=0)
        left = _left_bytes(bench, free, pid)
        while left > _LEFT_BYTES and time.perf_counter() - began < 2 * _MAX_SECONDS:
            time.sleep(0.1)
            left = _left_bytes(bench, free, pid)
        seconds = time.perf_counter() - began
    finally:
        child.close()
    return _Killed(held, left, seconds, _resumed_at(bench, folder))


def _attempt(bench: Bench, folder: Path, output: str) -> tuple[WarmChild, ChildListener]:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    (folder / output).mkdir()
    own = {"GPU_CHECK_DEVICE": bench.device, "GPU_CHECK_ENDLESS": str(output == "first")}
    child, listener = WarmChild(_WIRING, WorkerSettings(), environment=os.environ | own), ChildListener()
    parameters = TuneParameters(
        model=ModelRef(id="random/llama", revision="main", digest="0" * 64),
        trainer=TrainerRef(dtype="float32"),
        training=SETTINGS,
        seed=3,
    )
    child.start(StageWork(parameters, {}, folder / output, folder / "checkpoints"), listener)
    return child, listener


def _await_checkpoint(folder: Path, listener: ChildListener) -> None:
    while not saved_steps(folder):
        try:
            listener.steps.get(timeout=_WAIT_SECONDS)
        except queue.Empty:
            raise RuntimeError(f"The child made no step: {listener.lines[-5:]}") from None


def _resumed_at(bench: Bench, folder: Path) -> int:
    child, listener = _attempt(bench, folder, "second")
    try:
        outcome = listener.outcomes.get(timeout=_WAIT_SECONDS)
    finally:
        child.close()
    if not isinstance(outcome, Finished):
        raise RuntimeError(f"The second attempt failed: {outcome}; {listener.lines[-5:]}")
    return outcome.result.counts["resumed_at_step"]


def _free_bytes(bench: Bench) -> int:
    return torch.cuda.mem_get_info()[0] if bench.on_gpu else 0


def _left_bytes(bench: Bench, free: int, pid: int) -> int:
    return max(0, free - _free_bytes(bench)) if bench.on_gpu else held_memory_bytes(pid)
