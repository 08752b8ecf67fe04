"""Shows a running job: a live line on a terminal, and one line for each stage and each reason to wait elsewhere."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import httpx
from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from craft.contracts.events import EventType, StageStatus
from craft.contracts.public.jobs import EventView, JobView
from craft_cli.tables.cells import clock
from craft_client import ClientError

_LINES = {
    EventType.STAGE_SUCCEEDED: "[green]✓[/] {stage} {seconds}",
    EventType.STAGE_REUSED: "[cyan]↺[/] {stage} reused",
    EventType.STAGE_RETRIED: "[yellow]↻[/] {stage} again",
    EventType.STAGE_FAILED: "[red]✗[/] {stage}",
}
_FIRST_LOOK_SECONDS = 1.5
_LOOK_SECONDS = 4.0
_BAR_WIDTH = 20
_STAGE_WIDTH = 26
_DAY_SECONDS = 86_400

Look = Callable[[], JobView]
"""Fetches the job's view: events tell what has happened, and the view why nothing does."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """The state of the live line."""

    stage: str | None = None
    """The last stage that started or told its progress."""
    running: Mapping[str, datetime] = field(default_factory=dict)
    """Running stages, each with its start."""
    percent: float = 0.0
    loss: float | None = None
    waits_since: datetime | None = None
    waits_for: str | None = None
    ends_at: datetime | None = None


class JobDisplay:
    """Shows a job from its events, and looks at the job itself every few seconds."""

    def __init__(
        self, console: Console, look: Look, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._console = console
        self._look = look
        self._now = now
        self._shown = _Shown()
        self._over = threading.Event()

    def follow(self, events: Iterable[EventView]) -> None:
        """Show events until the last one."""
        with self._looking(), self._live():
            for event in events:
                line = _line(event)
                if line:
                    self._console.print(line, highlight=False)
                self._shown = _after(self._shown, event)

    def see(self, view: JobView) -> None:
        """Show what the job's view says beyond the events: the reason to wait, and the expected end."""
        runs = any(stage.status is StageStatus.RUNNING for stage in view.stages)
        waits_for = None if runs or view.status.terminal else view.status_reason
        if waits_for and waits_for != self._shown.waits_for and not self._console.is_terminal:
            self._console.print(f"… waiting: {escape(waits_for)}", highlight=False, soft_wrap=True)
        self._shown = replace(self._shown, waits_for=waits_for, ends_at=view.estimated_finish_at)

    def line(self) -> RenderableType:
        """The live line: the reason to wait, or the running stage with its progress."""
        shown, now = self._shown, self._now()
        stage = shown.stage if shown.stage in shown.running else next(iter(shown.running), None)
        if stage is None:
            passed = "" if shown.waits_since is None else f" {clock((now - shown.waits_since).total_seconds())}"
            return Text(f"waiting{passed}" + (f": {shown.waits_for}" if shown.waits_for else ""))
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            Text(stage.ljust(_STAGE_WIDTH)),
            ProgressBar(total=100, completed=shown.percent, width=_BAR_WIDTH),
            Text(f"{shown.percent:3.0f}%"),
            Text(clock((now - shown.running[stage]).total_seconds())),
            Text("" if shown.ends_at is None else f"ETA {_time_of_day(shown.ends_at, now)}"),
            Text("" if shown.loss is None else f"loss {shown.loss:.3f}"),
        )
        return grid

    @contextmanager
    def _live(self) -> Iterator[None]:
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, get_renderable=self.line, transient=True, refresh_per_second=4):
            yield

    @contextmanager
    def _looking(self) -> Iterator[None]:
        threading.Thread(target=self._look_again, daemon=True).start()
        try:
            yield
        finally:
            self._over.set()

    def _look_again(self) -> None:
        pause = _FIRST_LOOK_SECONDS
        while not self._over.wait(pause):
            pause = _LOOK_SECONDS
            try:
                view = self._look()
            except (ClientError, httpx.HTTPError, RuntimeError):
                # The events' own connection tells of a server that is away; a closed client ends this thread.
                continue
            if not self._over.is_set():
                self.see(view)


def watch(events: Iterable[EventView], console: Console, look: Look) -> None:
    """Show a job until its last event."""
    JobDisplay(console, look).follow(events)


def _after(shown: _Shown, event: EventView) -> _Shown:
    """The state of the line after an event."""
    percent, stage = event.data.get("percent"), str(event.data.get("stage", ""))
    if isinstance(percent, (int, float)):
        shown = replace(shown, percent=float(percent))
    if event.type is EventType.STAGE_STARTED:
        return replace(shown, stage=stage, loss=None, running={**shown.running, stage: event.created_at})
    if event.type is EventType.JOB_PROGRESS:
        running = {stage: event.created_at, **shown.running}
        return replace(shown, stage=stage, loss=_loss(event), running=running)
    running = {name: start for name, start in shown.running.items() if name != stage}
    return replace(shown, running=running, waits_since=event.created_at)


def _line(event: EventView) -> str | None:
    template = _LINES.get(event.type)
    if template is None:
        return None
    seconds = event.data.get("seconds")
    shown = f"[dim]{seconds:.1f} s[/]" if isinstance(seconds, (int, float)) else ""
    return template.format(stage=escape(str(event.data.get("stage"))), seconds=shown)


def _loss(event: EventView) -> float | None:
    metrics = event.data.get("metrics")
    value = metrics.get("loss") if isinstance(metrics, dict) else None
    return float(value) if isinstance(value, (int, float)) else None


def _time_of_day(moment: datetime, now: datetime) -> str:
    """A moment in this machine's time zone; with its date if it is far away."""
    far = abs((moment - now).total_seconds()) > _DAY_SECONDS
    return f"{moment.astimezone():%Y-%m-%d %H:%M}" if far else f"{moment.astimezone():%H:%M}"
