"""`craft jobs …`: submit, show and control jobs."""

import json
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from craft.contracts.documents.report import ReportDocument
from craft.contracts.public.jobs import JobView
from craft.contracts.spec.jobs import JobStatus
from craft.core.questions import Task
from craft.errors import NotFound
from craft_cli.arguments import name_values
from craft_cli.failures import EXIT_INTERRUPTED, fail, message_of
from craft_cli.lookup import DATASETS, JOBS
from craft_cli.output import error_console, print_json, tell
from craft_cli.session import Session, server_command
from craft_cli.tables import estimates, jobs
from craft_cli.tables.cells import finding_lines
from craft_cli.tables.report import conclusion
from craft_cli.watching import watch
from craft_client import ApiError, JobFailed, JobHandle, UnexpectedAnswer

app = typer.Typer(no_args_is_help=True, help="Submit, watch and control jobs, and fetch their results.")
JobId = Annotated[
    str,
    typer.Argument(help="cjob_… or its beginning, or a name.", show_default=False, autocompletion=JOBS.completions),
    JOBS,
]
SpecFile = Annotated[Path, typer.Argument(help="The job specification as JSON; - means standard input.")]
GivenDataset = Annotated[
    str | None,
    typer.Option(
        "--dataset", help="The dataset, in place of the specification's: a file, which is uploaded, an id or a name."
    ),
]
Follow = Annotated[bool, typer.Option("--watch", help="Then watch the job; exit 0 only where it succeeds.")]


@server_command(app, example="craft jobs submit job.json --dataset facts.jsonl --watch")
def submit(session: Session, spec: SpecFile, *, dataset: GivenDataset = None, follow: Follow = False) -> None:
    """Submit a job and print its id."""
    given = specification(spec, session, dataset=dataset)
    _show_created(session, session.client.jobs.create(given), follow=follow)


@server_command(app, example="craft jobs validate job.json --dataset facts.jsonl --json")
def validate(session: Session, spec: SpecFile, *, dataset: GivenDataset = None) -> None:
    """Show the stages, the estimate, the checks and the findings of a job, without running it."""
    view = session.client.jobs.validate(specification(spec, session, dataset=dataset))
    shown = [*estimates.lines(view.estimate), *estimates.checks(view), *finding_lines(view.findings)]
    session.show(view, estimates.stages(view), *shown)


@server_command(app, "ls", example="craft jobs ls --status running --label ticket=ML-412")
def list_jobs(
    session: Session,
    *,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
    status: Annotated[list[JobStatus] | None, typer.Option(help="Only jobs with this status; may be repeated.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be repeated, all must match.")] = None,
) -> None:
    """List jobs, newest first."""
    labels = name_values(label, session, what="label")
    page = session.client.jobs.list(limit=limit, after=after, status=status or None, labels=labels)
    session.show(page, jobs.jobs(page.data, now=datetime.now(UTC)))


@server_command(app, example="craft jobs get cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def get(session: Session, job_id: JobId) -> None:
    """Show one job with its stages."""
    view = session.client.jobs.get(job_id)
    lines: list[object] = [jobs.jobs([view], now=datetime.now(UTC)), jobs.stages(view.stages)]
    if view.error is not None:
        lines.append(message_of(JobFailed(view)))
    elif view.status_reason and not view.status.terminal:
        lines.append(view.status_reason)
    session.show(view, *lines)


@server_command(app, "watch", example="craft jobs watch cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def watch_job(session: Session, job_id: JobId) -> None:
    """Follow a job to its end; exit 0 only where it succeeds. Ctrl-C leaves the job running."""
    follow_job(session, job_id)


@server_command(app, example="craft jobs logs cjob_01jgywz3x4v5q6r7s8t9vawbxc --stage tune:craft")
def logs(
    session: Session,
    job_id: JobId,
    *,
    stage: Annotated[str | None, typer.Option(help="Only this stage, e.g. tune:craft.")] = None,
) -> None:
    """Print the logs of the job's stages."""
    lines = session.client.jobs.iterate_logs(job_id, stage=stage)
    if session.as_json:
        data = [line.model_dump(mode="json") for line in lines]
        print_json({"object": "list", "data": data, "has_more": False, "last_id": data[-1]["id"] if data else None})
        return
    for line in lines:
        print(f"{line.stage}#{line.attempt} {line.line}")


@server_command(app, example="craft jobs cancel cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def cancel(session: Session, job_id: JobId) -> None:
    """Cancel a job. Finished stages keep their results."""
    _show(session, session.client.jobs.cancel(job_id))


@server_command(app, example="craft jobs pause cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def pause(session: Session, job_id: JobId) -> None:
    """Pause a job, so that other jobs get its workers. Finished work is kept."""
    _show(session, session.client.jobs.pause(job_id))


@server_command(app, example="craft jobs resume cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def resume(session: Session, job_id: JobId) -> None:
    """Continue a paused job where it stopped."""
    _show(session, session.client.jobs.resume(job_id))


@server_command(app, example="craft jobs retry cjob_01jgywz3x4v5q6r7s8t9vawbxc --from tune:craft --watch")
def retry(
    session: Session,
    job_id: JobId,
    *,
    from_stage: Annotated[
        str | None, typer.Option("--from", help="Compute this stage and all that depend on it again, e.g. tune:craft.")
    ] = None,
    follow: Follow = False,
) -> None:
    """Repeat an ended job as a new one, and print its id. Finished stages are reused."""
    _show_created(session, session.client.jobs.retry(job_id, from_stage=from_stage), follow=follow)


@server_command(app, example="craft jobs pin cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def pin(session: Session, job_id: JobId) -> None:
    """Keep all results of a job without a time limit; see `craft gc`."""
    _show_pin(session, session.client.jobs.pin(job_id))


@server_command(app, example="craft jobs unpin cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def unpin(session: Session, job_id: JobId) -> None:
    """Let a job's results expire like those of other jobs; the next garbage collection removes overdue ones."""
    _show_pin(session, session.client.jobs.unpin(job_id))


@server_command(app, example="craft jobs attempts cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def attempts(session: Session, job_id: JobId) -> None:
    """Show each attempt at a stage, with its worker, duration and outcome."""
    page = session.client.jobs.attempts(job_id)
    session.show(page, jobs.attempts(page.data))


def follow_job(session: Session, job_id: str) -> None:
    """Show a job to its end. Raises JobFailed if it does not succeed. Ctrl-C ends this command, not the job."""
    try:
        watch(session.client.jobs.stream(job_id), error_console(), lambda: session.client.jobs.get(job_id))
    except KeyboardInterrupt:
        error_console().print(
            f"The job goes on. See it again: craft jobs watch {shlex.quote(job_id)}; end it: "
            f"craft jobs cancel {shlex.quote(job_id)}",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    view = session.client.jobs.get(job_id)
    if session.as_json:
        print_json(view)
    if view.status is not JobStatus.SUCCEEDED:
        raise JobFailed(view)
    if not session.as_json:
        tell(conclusion(view, _report_of(session, view)))


def _report_of(session: Session, view: JobView) -> ReportDocument | None:
    """The job's report; None if there is none any more."""
    try:
        return None if view.report is None else session.client.jobs.report(view.id)
    except (ApiError, UnexpectedAnswer):
        return None


def specification(path: Path, session: Session, *, dataset: str | None = None) -> dict[str, Any]:
    """The JSON object in a file or on standard input, with this dataset if one is named."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        value = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        fail(f"{path} is not a readable JSON file: {error}", as_json=session.as_json)
    if not isinstance(value, dict):
        fail(f"{path} is not a JSON object.", as_json=session.as_json)
    return {**value, "dataset": {"id": _dataset_id(session, dataset, value.get("task"))}} if dataset else dict(value)


def _dataset_id(session: Session, given: str, task: object) -> str:
    """The id of the dataset that is named, or made of the file that is named. Ends the program for another word."""
    path = Path(given)
    if path.is_file():
        known = next((each for each in Task if each == task), None)
        view = session.client.datasets.upload(path, task=known)
        tell([f"Dataset {view.id}: {view.rows:,} rows of {path.name}."])
        return view.id
    try:
        return DATASETS.id_of(session.client, given)
    except NotFound:
        fail(f"{given!r} is no file here, and no dataset has this name or id.", as_json=session.as_json)


def _show_created(session: Session, handle: JobHandle, *, follow: bool) -> None:
    if not follow:
        session.show(handle.view, handle.id)
        return
    if not session.as_json:
        print(handle.id, flush=True)
    follow_job(session, handle.id)


def _show(session: Session, view: JobView) -> None:
    session.show(view, view.status.value)


def _show_pin(session: Session, view: JobView) -> None:
    session.show(view, "pinned" if view.pinned else "not pinned")
