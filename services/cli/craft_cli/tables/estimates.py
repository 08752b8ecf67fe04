"""What a job would do and cost, for a terminal."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from craft.contracts.documents.estimate import Basis, Check, Estimate, SecondsEstimate, StageEstimate
from craft.contracts.public.jobs import ValidationView
from craft_cli.tables.listings import size

_MINUTE, _HOUR = 60.0, 3600.0


def stages(found: ValidationView) -> Table:
    """A line for each stage: who does it, how much there is to do, and what that took before."""
    table = Table()
    table.add_column("stage")
    table.add_column("by")
    for heading in ("units", "takes", "from past stages"):
        table.add_column(heading, justify="right")
    known = {each.stage: each for each in found.estimate.stage_estimates}
    for stage in found.stages:
        cells = ("", "", "") if stage.reused else _cells(known.get(stage.name))
        table.add_row(Text(stage.name), Text("reused" if stage.reused else stage.service), *cells)
    return table


def _cells(estimate: StageEstimate | None) -> tuple[str, str, str]:
    if estimate is None:
        return "", "unknown", ""
    basis = " of other models" if estimate.seconds.basis is Basis.SCALED else ""
    return f"{estimate.units:,.0f}", takes(estimate.seconds), f"{estimate.seconds.based_on}{basis}"


def lines(estimate: Estimate) -> Iterator[str]:
    """The whole job in words: bounds, what is likely, memory and the wait. What nobody knows yet is said so."""
    yield f"questions: about {estimate.train_questions:,} to train with, {estimate.held_out_questions:,} held out"
    yield (
        f"at most: {estimate.prompts:,} prompts, {estimate.generated_tokens:,} tokens generated, "
        f"{estimate.trained_samples:,} samples trained, {estimate.optimiser_steps:,} optimiser steps"
    )
    likely = [
        f"{tokens:,} tokens {what}"
        for tokens, what in (
            (estimate.expected_generated_tokens, "generated"),
            (estimate.expected_trained_tokens, "trained"),
        )
        if tokens is not None
    ]
    yield f"likely: {', '.join(likely) or 'unknown, no such stage has run here'}"
    yield f"time: {takes(estimate.seconds)}"
    if estimate.memory is not None:
        memory = estimate.memory
        yield f"memory: {size(memory.device_bytes)} where it computes, {size(memory.host_bytes)} on the host"
    if estimate.queue is not None:
        wait, ahead = estimate.queue.seconds, estimate.queue.ahead
        yield f"begins: {'unknown' if wait is None else f'in {duration(wait)}'}, stages before it: {ahead}"


def checks(found: ValidationView) -> Iterator[str]:
    """A line for each check, and its hint on the next."""
    for check in found.checks:
        yield f"{_mark(check)} {check.name}: {check.message}"
        if check.hint:
            yield f"  Hint: {check.hint}"


def _mark(check: Check) -> str:
    return f"[{check.outcome.value}]"


def takes(estimate: SecondsEstimate | None) -> str:
    """How long, with its interval."""
    if estimate is None or estimate.seconds is None:
        return "unknown"
    if estimate.low is None or estimate.high is None:
        return duration(estimate.seconds)
    return f"{duration(estimate.seconds)} [{duration(estimate.low)}, {duration(estimate.high)}]"


def duration(seconds: float) -> str:
    """In the largest unit that leaves a whole number before the point."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    return f"{seconds / _MINUTE:.1f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"
