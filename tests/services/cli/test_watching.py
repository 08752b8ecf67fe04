"""A job that is shown while it runs."""

import io
from datetime import timedelta

from rich.console import Console
from tests.services.cli.views import NOW, event

from craft_cli.watching import watch


def test_watching_prints_a_line_for_each_stage() -> None:
    output = io.StringIO()
    events = [
        event(1, "stage.started", stage="probe:initial", attempt=1),
        event(2, "job.progress", stage="tune:craft", percent=40.0, done=1, total=2, metrics={"loss": 0.5}),
        event(3, "stage.succeeded", stage="probe:initial", seconds=81.23, percent=50.0),
        event(4, "stage.reused", stage="score:initial", percent=60.0),
        event(5, "job.succeeded"),
    ]
    watch(events, Console(file=output, width=80))
    assert output.getvalue().splitlines() == ["✓ probe:initial 81.2 s", "↺ score:initial reused"]


def test_a_late_viewer_sees_the_time_that_is_left() -> None:
    output = io.StringIO()
    events = [event(1, "job.started"), event(2, "job.progress", stage="tune:craft", percent=75.0, done=3, total=4)]
    late = events[1].model_copy(update={"created_at": NOW + timedelta(minutes=9)})
    watch([events[0], late], Console(file=output, width=120, force_terminal=True))
    assert "ETA 3:00" in output.getvalue()
