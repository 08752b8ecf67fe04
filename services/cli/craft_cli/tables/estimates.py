"""The estimate of a job in a terminal: its stages, time, memory and checks."""

from collections.abc import Iterator

from craft.contracts.documents.estimate import Basis, Check, Estimate, SecondsEstimate, StageEstimate
from craft.contracts.public.jobs import ValidationView
from craft_cli.tables.cells import size, text_table
from craft_cli.tables.plain import Fit, PlainTable

_MINUTE, _HOUR = 60.0, 3600.0


def stages(validation: ValidationView) -> PlainTable:
    """One row for each stage: its service, its units, its time, and the past stages behind the estimate."""
    estimates = {estimate.stage: estimate for estimate in validation.estimate.stage_estimates}
    rows = (
        (
            stage.name,
            "reused" if stage.reused else stage.service.value,
            *(("", "", "") if stage.reused else _cells(estimates.get(stage.name))),
        )
        for stage in validation.stages
    )
    return text_table(
        ("stage", "by", "units", "takes", "from past stages"), rows, fits={"from past stages": Fit.IF_ROOM}
    )


def _cells(estimate: StageEstimate | None) -> tuple[str, str, str]:
    if estimate is None:
        return "", "unknown", ""
    basis = " of other models" if estimate.seconds.basis is Basis.SCALED else ""
    return f"{estimate.units:,.0f}", takes(estimate.seconds), f"{estimate.seconds.based_on}{basis}"


def lines(estimate: Estimate) -> Iterator[str]:
    """The whole job in words: its bounds, likely work, time, memory and wait. Unknown values are "unknown"."""
    yield f"questions: about {estimate.train_questions:,} to train with, {estimate.held_out_questions:,} held out"
    yield (
        f"at most: {estimate.prompts:,} prompts, {estimate.generated_tokens:,} tokens generated, "
        f"{estimate.trained_samples:,} samples trained, {estimate.optimiser_steps:,} optimiser steps"
    )
    likely = [
        f"{tokens:,} tokens {verb}"
        for tokens, verb in (
            (estimate.expected_generated_tokens, "generated"),
            (estimate.expected_trained_tokens, "trained"),
        )
        if tokens is not None
    ]
    yield f"likely: {', '.join(likely) or 'unknown, no such stage has run here'}"
    yield f"time: {takes(estimate.seconds)}"
    if estimate.memory is not None:
        memory = estimate.memory
        measured = "" if memory.measured_bytes is None else f"; past stages took {size(memory.measured_bytes)}"
        yield (
            f"memory: about {size(memory.device_bytes)} on the accelerator (without one, on the host) for rows of at "
            f"most {memory.row_tokens:,} tokens{measured}"
        )
    if estimate.queue is not None:
        wait, ahead = estimate.queue.seconds, estimate.queue.ahead
        yield f"begins: {'unknown' if wait is None else f'in {duration(wait)}'}, stages before it: {ahead}"


def checks(validation: ValidationView) -> Iterator[str]:
    """A line for each check, with its hint on the next line."""
    for check in validation.checks:
        yield f"{_mark(check)} {check.name}: {check.message}"
        if check.hint:
            yield f"  Hint: {check.hint}"


def _mark(check: Check) -> str:
    return f"[{check.outcome.value}]"


def takes(estimate: SecondsEstimate | None) -> str:
    """A duration with its interval; "unknown" where there is none."""
    if estimate is None or estimate.seconds is None:
        return "unknown"
    if estimate.low is None or estimate.high is None:
        return duration(estimate.seconds)
    return f"{duration(estimate.seconds)} [{duration(estimate.low)}, {duration(estimate.high)}]"


def duration(seconds: float) -> str:
    """Seconds in the largest unit that leaves a whole number before the point."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    return f"{seconds / _MINUTE:.1f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"
