"""A job that is shown while it runs."""

import io
from datetime import timedelta

from rich.console import Console
from tests.services.cli.views import JOB_ID, NOW, ended_view, event, job_view, report_document

from craft.contracts.events import StageStatus
from craft.contracts.public.jobs import JobView
from craft.contracts.spec.jobs import JobStatus
from craft_cli.tables.report import conclusion
from craft_cli.watching import JobDisplay, watch

REASON = "probe:initial waits for a free inference worker: device is busy with tune:craft-no-flow of 'ablation'"


def waiting_view(reason: str | None = REASON) -> JobView:
    return job_view(JobStatus.RUNNING).model_copy(update={"status_reason": reason})


def display(output: io.StringIO, *, terminal: bool, seconds: float = 0.0) -> JobDisplay:
    console = Console(file=output, width=80, force_terminal=terminal)
    return JobDisplay(console, waiting_view, now=lambda: NOW + timedelta(seconds=seconds))


def shown(line: JobDisplay) -> str:
    output = io.StringIO()
    Console(file=output, width=80).print(line.line())
    return output.getvalue()


def test_watching_prints_a_line_for_each_stage() -> None:
    output = io.StringIO()
    events = [
        event(1, "stage.started", stage="probe:initial", attempt=1),
        event(2, "job.progress", stage="tune:craft", percent=40.0, done=1, total=2, metrics={"loss": 0.5}),
        event(3, "stage.succeeded", stage="probe:initial", seconds=81.23, percent=50.0),
        event(4, "stage.reused", stage="score:initial", percent=60.0),
        event(5, "job.succeeded"),
    ]
    watch(events, Console(file=output, width=80), waiting_view)
    assert output.getvalue().splitlines() == ["✓ probe:initial 81.2 s", "↺ score:initial reused"]


def test_a_job_that_waits_shows_for_how_long_and_why() -> None:
    line = display(io.StringIO(), terminal=True, seconds=193)
    line.follow([event(1, "stage.started", stage="ingest"), event(2, "stage.succeeded", stage="ingest", percent=2.0)])
    line.see(waiting_view())
    assert " ".join(shown(line).split()) == f"waiting 3:13: {REASON}"


def test_elsewhere_than_on_a_terminal_each_reason_to_wait_is_one_line() -> None:
    output = io.StringIO()
    line = display(output, terminal=False)
    for reason in (REASON, REASON, None, "team search runs 1 jobs, as many as it may at once"):
        line.see(waiting_view(reason))
    assert output.getvalue().splitlines() == [
        f"… waiting: {REASON}",
        "… waiting: team search runs 1 jobs, as many as it may at once",
    ]


def test_the_end_is_the_servers_own_forecast_or_nothing() -> None:
    line = display(io.StringIO(), terminal=True, seconds=61)
    line.follow([event(1, "stage.started", stage="tune:craft")])
    assert "ETA" not in shown(line)
    view = job_view(JobStatus.RUNNING)
    ends_at = NOW + timedelta(minutes=5)
    line.see(view.model_copy(update={"estimated_finish_at": ends_at}))
    assert f"1:01 ETA {ends_at.astimezone():%H:%M}" in shown(line)
    far = NOW + timedelta(days=3)
    line.see(view.model_copy(update={"estimated_finish_at": far}))
    assert f"ETA {far.astimezone():%Y-%m-%d}" in shown(line)


def test_the_running_stage_is_shown_with_its_own_time_and_loss_in_one_line() -> None:
    line = display(io.StringIO(), terminal=True, seconds=75)
    progress = event(
        2, "job.progress", stage="answer:craft-no-certainty", percent=61.0, metrics={"loss": 0.4123}
    ).model_copy(update={"created_at": NOW + timedelta(seconds=70)})
    line.follow([event(1, "stage.started", stage="answer:craft-no-certainty"), progress])
    (text,) = shown(line).splitlines()
    assert text.startswith("answer:craft-no-certainty ")
    assert " 61% 1:15 " in text
    assert text.rstrip().endswith("loss 0.412")


def test_of_two_running_stages_the_other_is_shown_when_one_ends() -> None:
    line = display(io.StringIO(), terminal=True)
    started = [event(n, "stage.started", stage=name) for n, name in enumerate(("answer:craft", "answer:basic"), 1)]
    line.follow([*started, event(3, "stage.succeeded", stage="answer:basic", seconds=1.0, percent=9.0)])
    line.see(waiting_view())
    assert shown(line).startswith("answer:craft ")


def test_a_job_that_has_a_running_stage_does_not_wait() -> None:
    output = io.StringIO()
    line = display(output, terminal=False)
    view = ended_view()
    stage = view.stages[0].model_copy(update={"status": StageStatus.RUNNING})
    line.see(view.model_copy(update={"status": JobStatus.RUNNING, "stages": [stage], "status_reason": "ingest"}))
    assert output.getvalue() == ""


def test_at_its_end_the_job_tells_its_time_its_gain_and_the_next_commands() -> None:
    lines = [*conclusion(ended_view(), report_document())]
    assert lines[0] == "a name succeeded after 12:03, 1:02 of them in the queue."
    assert lines[1] == "THS on held_out: M0 BASIC 0.0, M0 REFUSE 40.3, craft 47.1 [44.0, 50.2]"
    assert "refusing everything" in lines[2]
    assert lines[3:] == [
        "Next:",
        f"  craft jobs report {JOB_ID}",
        f"  craft jobs report {JOB_ID} -o report.html",
        f"  craft jobs download {JOB_ID}",
    ]
    assert [*conclusion(ended_view(), None)][1] == "Next:"
