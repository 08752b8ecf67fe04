"""`craft jobs …`"""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from craft.contracts.publishing import PublishRequest
from craft.contracts.rest_scoring import ReportDocument
from craft.contracts.serving import AdapterDeployment
from craft.contracts.views import JobView
from craft.core.selection import Strategy
from craft_cli import comparison_tables, tables
from craft_cli.session import DEFAULT, EXIT_FAILED, EXIT_USAGE, AsJson, Url, connected, fail, show_json
from craft_cli.watching import error_console, watch
from craft_client import Client, JobFailed, JobHandle

app = typer.Typer(no_args_is_help=True, help="Submit, watch and fetch jobs.")
JobId = Annotated[str, typer.Argument(help="cjob_…")]
SpecFile = Annotated[Path, typer.Argument(help="The job specification as JSON; - reads standard input.")]


@app.command()
def submit(
    spec: SpecFile,
    *,
    follow: Annotated[bool, typer.Option("--watch", help="Then watch it; exit 0 only where it succeeds.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT,
) -> None:
    """Submit a job and print its id."""
    with connected(url) as client:
        _created(client, client.jobs.create(_specification(spec)), follow=follow, as_json=as_json)


@app.command()
def validate(spec: SpecFile, *, as_json: AsJson = False, url: Url = DEFAULT) -> None:
    """Say what a job would do, without running it."""
    with connected(url) as client:
        found = client.jobs.validate(_specification(spec))
        if as_json:
            show_json(found)
            return
        for stage in found.stages:
            print(f"{stage.name:32} {'reused' if stage.reused else stage.service}")
        print(found.estimate.model_dump_json(indent=2))


@app.command("ls")
def list_jobs(
    *,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    status: Annotated[str | None, typer.Option(help="Only jobs of this status.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT,
) -> None:
    """List jobs, newest first."""
    with connected(url) as client:
        found = client.jobs.list(limit=limit, **({"status": status} if status else {}))
        if as_json:
            show_json(found)
        else:
            Console().print(tables.jobs(found.data))


@app.command()
def get(job_id: JobId, *, as_json: AsJson = False, url: Url = DEFAULT) -> None:
    """Show one job."""
    with connected(url) as client:
        view = client.jobs.get(job_id)
        if as_json:
            show_json(view)
            return
        Console().print(tables.jobs([view]))
        for stage in view.stages:
            seconds = "" if stage.seconds is None else f"{stage.seconds:8.1f} s"
            print(f"  {stage.name:32} {stage.status:10} {'reused' if stage.reused else seconds}")
        if view.error is not None:
            print(JobFailed(view))


@app.command("watch")
def watch_job(job_id: JobId, *, url: Url = DEFAULT) -> None:
    """Follow a job from where it is to its end; exit 0 only where it succeeds."""
    with connected(url) as client:
        follow_job(client, job_id)


@app.command()
def logs(
    job_id: JobId,
    *,
    stage: Annotated[str | None, typer.Option(help="Only this stage, e.g. tune:craft.")] = None,
    url: Url = DEFAULT,
) -> None:
    """Print what the job's stages printed."""
    with connected(url) as client:
        after = 0
        while True:
            page = client.jobs.logs(job_id, stage=stage, after=after)
            for line in page.data:
                print(f"{line.stage}#{line.attempt} {line.line}")
            if not page.has_more or page.last_id is None:
                return
            after = page.last_id


@app.command()
def cancel(job_id: JobId, *, as_json: AsJson = False, url: Url = DEFAULT) -> None:
    """Cancel a job; what it finished stays."""
    with connected(url) as client:
        view = client.jobs.cancel(job_id)
        _show(view, view.status, as_json=as_json)


@app.command()
def pause(job_id: JobId, *, as_json: AsJson = False, url: Url = DEFAULT) -> None:
    """Pause a job, so that others have its workers; what it computed so far stays."""
    with connected(url) as client:
        view = client.jobs.pause(job_id)
        _show(view, view.status, as_json=as_json)


@app.command()
def resume(job_id: JobId, *, as_json: AsJson = False, url: Url = DEFAULT) -> None:
    """Go on with a paused job where it stopped."""
    with connected(url) as client:
        view = client.jobs.resume(job_id)
        _show(view, view.status, as_json=as_json)


@app.command()
def retry(
    job_id: JobId,
    *,
    from_stage: Annotated[
        str | None, typer.Option("--from", help="Compute this stage and what depends on it again, e.g. tune:craft.")
    ] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Then watch it; exit 0 only where it succeeds.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT,
) -> None:
    """Do an ended job again as a new one, and print its id; what was finished is used again."""
    with connected(url) as client:
        _created(client, client.jobs.retry(job_id, from_stage=from_stage), follow=follow, as_json=as_json)


@app.command()
def pin(job_id: JobId, *, as_json: AsJson = False, url: Url = DEFAULT) -> None:
    """Keep all that a job made without limit of time, whatever else expires; see `craft gc`."""
    with connected(url) as client:
        view = client.jobs.pin(job_id)
        _show(view, "pinned" if view.pinned else "not pinned", as_json=as_json)


@app.command()
def unpin(job_id: JobId, *, as_json: AsJson = False, url: Url = DEFAULT) -> None:
    """Let what a job made expire like that of any other; what is overdue goes with the next sweep."""
    with connected(url) as client:
        view = client.jobs.unpin(job_id)
        _show(view, "pinned" if view.pinned else "not pinned", as_json=as_json)


@app.command()
def attempts(job_id: JobId, *, as_json: AsJson = False, url: Url = DEFAULT) -> None:
    """Show which worker had which stage, for how long, and how it ended."""
    with connected(url) as client:
        found = client.jobs.attempts(job_id)
        if as_json:
            show_json(found)
        else:
            Console().print(tables.attempts(found.data))


@app.command()
def report(
    job_id: JobId,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Save the HTML report here.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT,
) -> None:
    """Print a finished job's table, or save its report."""
    with connected(url) as client:
        handle = client.jobs.open(job_id)
        if output is not None:
            print(handle.download_report(output, form="json" if output.suffix == ".json" else "html"))
            return
        text = client.jobs.report_json(job_id)
        if as_json:
            sys.stdout.buffer.write(text + b"\n")
        else:
            print_report(ReportDocument.model_validate_json(text))


@app.command()
def download(
    job_id: JobId,
    *,
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("adapter.tar.gz"),
    strategy: Annotated[str | None, typer.Option(help="Which adapter, where the job made several.")] = None,
    url: Url = DEFAULT,
) -> None:
    """Save a job's adapter (tar.gz, PEFT layout)."""
    with connected(url) as client:
        print(client.jobs.open(job_id).download_adapter(output, strategy=strategy))


@app.command()
def deploy(
    job_id: JobId,
    *,
    strategy: Annotated[Strategy | None, typer.Option(help="Which adapter, where the job made several.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT,
) -> None:
    """Serve a job's adapter; print its model name and how to ask it."""
    with connected(url) as client:
        deployment = client.jobs.deploy(job_id, strategy=strategy)
        if as_json:
            show_json(deployment)
            return
        print(deployment.model)
        print(_curl(url, deployment))


@app.command()
def compare(
    job_ids: Annotated[list[str], typer.Argument(help="Two to ten ids: cjob_… cjob_…")],
    *,
    as_json: AsJson = False,
    url: Url = DEFAULT,
) -> None:
    """Show jobs side by side: parameters that differ, metrics, and paired differences with 95 % intervals."""
    with connected(url) as client:
        found = client.jobs.compare(job_ids)
        if as_json:
            show_json(found)
            return
        console = Console()
        for table in comparison_tables.tables(found):
            console.print(table)
        for line in comparison_tables.reasons(found):
            console.print(f"• {escape(line)}", highlight=False)


@app.command()
def publish(
    job_id: JobId,
    *,
    mlflow: Annotated[str | None, typer.Option(help="The registered model that gets a new version.")] = None,
    hub: Annotated[str | None, typer.Option(help="The hub repository, owner/name.")] = None,
    public: Annotated[bool, typer.Option("--public", help="A hub repository that everybody may read.")] = False,
    message: Annotated[str | None, typer.Option(help="The hub's commit message.")] = None,
    strategy: Annotated[Strategy | None, typer.Option(help="Which adapter, where the job made several.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT,
) -> None:
    """Publish a job's adapter to MLflow or a hub; see `craft jobs publications`."""
    if (mlflow is None) == (hub is None):
        fail("Say where to: --mlflow MODEL or --hub OWNER/NAME.", EXIT_USAGE)
    target: dict[str, object] = {"kind": "mlflow", "model_name": mlflow}
    if hub is not None:
        target = {"kind": "hub", "repo": hub, "private": not public, "commit_message": message}
    try:
        request = PublishRequest.model_validate({"target": target, "strategy": strategy})
    except ValidationError as error:
        fail(f"{mlflow or hub} is no name there: {error.errors()[0]['msg']}.", EXIT_USAGE)
    with connected(url) as client:
        found = client.jobs.publish(job_id, request)
        if as_json:
            show_json(found)
        else:
            print(comparison_tables.publication_line(found))


@app.command()
def publications(job_id: JobId, *, as_json: AsJson = False, url: Url = DEFAULT) -> None:
    """Show where a job's adapters were published, or why not."""
    with connected(url) as client:
        found = client.jobs.publications(job_id)
        if as_json:
            show_json(found)
            return
        for publication in found.data:
            print(comparison_tables.publication_line(publication))


def follow_job(client: Client, job_id: str) -> None:
    """Show a job to its end; ends the program with 1 where it fails."""
    watch(client.jobs.stream(job_id), error_console())
    view = client.jobs.get(job_id)
    if view.status != "succeeded":
        fail(str(JobFailed(view)), EXIT_FAILED)


def print_report(report_document: ReportDocument) -> None:
    """The headline tables and what they mean."""
    console = Console()
    for report_set in report_document.sets:
        console.print(tables.results(report_set))
    for line in tables.comparisons(report_document):
        console.print(f"• {line}", highlight=False)


def _curl(url: str, deployment: AdapterDeployment) -> str:
    question = {"role": "user", "content": "What is the capital of Kenya?"}
    body = json.dumps({"model": deployment.model, "messages": [question], "max_tokens": 50})
    # Terminals and CI logs are read by others: a password in the address stays out.
    target = httpx.URL(url).copy_with(userinfo=b"").join(deployment.links.chat_completions)
    return f"curl {shlex.quote(str(target))} -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def _created(client: Client, handle: JobHandle, *, follow: bool, as_json: bool) -> None:
    if as_json and not follow:
        show_json(handle.view)
    else:
        print(handle.id)
    if follow:
        follow_job(client, handle.id)


def _show(view: JobView, text: str, *, as_json: bool) -> None:
    if as_json:
        show_json(view)
    else:
        print(text)


def _specification(path: Path) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        value = json.loads(text)
    except (OSError, ValueError) as error:
        fail(f"{path} is not a readable JSON file: {error}", EXIT_USAGE)
    if not isinstance(value, dict):
        fail(f"{path} does not hold a JSON object.", EXIT_USAGE)
    return dict(value)
