"""Shows a running job: a live progress bar on a terminal, and one line for each stage elsewhere."""

from collections.abc import Iterable
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from craft.contracts.events import EventType
from craft.contracts.public.jobs import EventView

_LINES = {
    EventType.STAGE_SUCCEEDED: "[green]✓[/] {stage} {seconds}",
    EventType.STAGE_REUSED: "[cyan]↺[/] {stage} reused",
    EventType.STAGE_RETRIED: "[yellow]↻[/] {stage} again",
    EventType.STAGE_FAILED: "[red]✗[/] {stage}",
}


def watch(events: Iterable[EventView], console: Console) -> None:
    """Show events until the terminal one."""
    bar = Progress(
        TextColumn("{task.description}", table_column=None),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[eta]}"),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("waiting", total=100, eta="")
        # The elapsed time comes from the events' own times, so the ETA is also right for a late viewer.
        began: datetime | None = None
        for event in events:
            if began is None or event.type == EventType.JOB_STARTED:
                began = event.created_at
            line = _line(event)
            if line:
                console.print(line, highlight=False)
            percent = event.data.get("percent")
            if isinstance(percent, (int, float)):
                eta = _eta(float(percent), (event.created_at - began).total_seconds())
                bar.update(task, completed=float(percent), description=_description(event), eta=eta)
            elif event.type == EventType.STAGE_STARTED:
                bar.update(task, description=_description(event))


def _line(event: EventView) -> str | None:
    template = _LINES.get(event.type)
    if template is None:
        return None
    seconds = event.data.get("seconds")
    shown = f"[dim]{seconds:.1f} s[/]" if isinstance(seconds, (int, float)) else ""
    return template.format(stage=escape(str(event.data.get("stage"))), seconds=shown)


def _description(event: EventView) -> str:
    loss = event.data.get("metrics")
    value = loss.get("loss") if isinstance(loss, dict) else None
    tail = f" loss {value:.3f}" if isinstance(value, (int, float)) else ""
    return escape(f"{event.data.get('stage', '')}{tail}".ljust(28))


def _eta(percent: float, elapsed_seconds: float) -> str:
    """The remaining time, if the rest takes as long for each percent as the work so far."""
    if percent < 2:
        return "ETA …"
    left = elapsed_seconds * (100 - percent) / percent
    return f"ETA {int(left // 60)}:{int(left % 60):02d}"
