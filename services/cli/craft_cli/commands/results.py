"""`craft jobs …`: events, artifacts, reports, adapters, deployments, comparisons and publications of jobs."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError

from craft.contracts.public.publishing import HubTarget, MlflowTarget
from craft.contracts.public.serving import AdapterDeployment
from craft.core.strategies import Strategy
from craft_cli.arguments import first_error
from craft_cli.commands.jobs import JobId
from craft_cli.failures import fail
from craft_cli.lookup import JOBS
from craft_cli.output import Verbatim, print_lines
from craft_cli.session import Session, server_command
from craft_cli.tables import comparison, jobs
from craft_cli.tables import report as report_tables

app = typer.Typer()
WhichAdapter = Annotated[Strategy | None, typer.Option("--strategy", help="The strategy, where a job has several.")]


@server_command(app, example="craft jobs events cjob_01jgywz3x4v5q6r7s8t9vawbxc --after 12")
def events(
    session: Session,
    job_id: JobId,
    *,
    after: Annotated[int, typer.Option(min=0, help="Only events with a higher number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
) -> None:
    """Print a job's events so far."""
    page = session.client.jobs.events(job_id, after=after, limit=limit)
    session.show(page, jobs.events(page.data))


@server_command(app, example="craft jobs artifacts cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def artifacts(session: Session, job_id: JobId) -> None:
    """List the artifacts of the job's stages."""
    page = session.client.jobs.artifacts(job_id)
    session.show(page, jobs.artifacts(page.data))


@server_command(app, example="craft jobs report cjob_01jgywz3x4v5q6r7s8t9vawbxc -o report.html")
def report(
    session: Session,
    job_id: JobId,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Save it here: as JSON where the name ends in .json, else as HTML."),
    ] = None,
) -> None:
    """Print the tables of a finished job's report, or save the report."""
    if output is not None:
        form = "json" if output.suffix == ".json" else "html"
        saved = session.client.jobs.open(job_id).download_report(output, form=form)
        session.show({"path": str(saved)}, saved)
    elif session.as_json:
        sys.stdout.write(session.client.jobs.report_json(job_id).decode() + "\n")
    else:
        print_lines(*report_tables.report(session.client.jobs.report(job_id)))


@server_command(app, example="craft jobs download cjob_01jgywz3x4v5q6r7s8t9vawbxc -o adapter.tar.gz")
def download(
    session: Session,
    job_id: JobId,
    *,
    output: Annotated[Path, typer.Option("--output", "-o")] = Path("adapter.tar.gz"),
    strategy: WhichAdapter = None,
) -> None:
    """Save a job's adapter (tar.gz, PEFT layout)."""
    saved = session.client.jobs.adapter(job_id, output, strategy=strategy)
    session.show({"path": str(saved), "bytes": saved.stat().st_size}, saved)


@server_command(app, example="craft jobs deploy cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def deploy(session: Session, job_id: JobId, *, strategy: WhichAdapter = None) -> None:
    """Serve a job's adapter, and print its model name and an example request."""
    deployment = session.client.jobs.deploy(job_id, strategy=strategy)
    session.show(deployment, deployment.model, Verbatim(_curl(session.client.base_url, deployment)))


@server_command(app, example="craft jobs undeploy cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def undeploy(session: Session, job_id: JobId, *, strategy: WhichAdapter = None) -> None:
    """Stop serving a job's adapter."""
    session.client.jobs.undeploy(job_id, strategy=strategy)
    session.show({"job_id": job_id, "deployed": False}, "not deployed")


@server_command(app, example="craft jobs compare cjob_01jgywz3x4v5q6r7s8t9vawbxc cjob_01jgywz3x4v5q6r7s8t9vawbxd")
def compare(
    session: Session,
    job_ids: Annotated[
        list[str], typer.Argument(help="Two to ten ids or names: cjob_… cjob_…", show_default=False), JOBS
    ],
) -> None:
    """Compare jobs: the differing parameters, the metrics, and paired differences with 95 % intervals."""
    view = session.client.jobs.compare(job_ids)
    reasons = (f"• {line}" for line in comparison.reasons(view))
    session.show(view, *comparison.tables(view), *reasons)


@server_command(app, example="craft jobs publish cjob_01jgywz3x4v5q6r7s8t9vawbxc --hub acme/support-qa")
def publish(
    session: Session,
    job_id: JobId,
    *,
    mlflow: Annotated[str | None, typer.Option(help="The registered model that gets a new version.")] = None,
    hub: Annotated[str | None, typer.Option(help="The hub repository, owner/name.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Make a hub repository that everybody may read.")] = False,
    message: Annotated[str | None, typer.Option(help="The hub's commit message.")] = None,
    strategy: WhichAdapter = None,
) -> None:
    """Publish a job's adapter to MLflow or a hub. `craft jobs publications` shows the progress."""
    if (mlflow is None) == (hub is None):
        fail("Say where to: --mlflow MODEL or --hub OWNER/NAME.", as_json=session.as_json)
    if hub is None and (public or message is not None):
        fail("--public and --message are for --hub.", as_json=session.as_json)
    try:
        target = _target(mlflow=mlflow, hub=hub, public=public, message=message)
    except ValidationError as error:
        form = "a name of letters, digits, spaces and ._-" if hub is None else "OWNER/NAME of letters, digits and ._-"
        fail(first_error(error, form=form), as_json=session.as_json)
    view = session.client.jobs.publish(job_id, target, strategy=strategy)
    session.show(view, jobs.publication_line(view))


@server_command(app, example="craft jobs publications cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def publications(session: Session, job_id: JobId) -> None:
    """Show the publications of a job's adapters, with the reasons for failures."""
    page = session.client.jobs.publications(job_id)
    session.show(page, *map(jobs.publication_line, page.data))


def _target(*, mlflow: str | None, hub: str | None, public: bool, message: str | None) -> MlflowTarget | HubTarget:
    """The target that the options name. Raises ValidationError."""
    if hub is None:
        return MlflowTarget.model_validate({"kind": "mlflow", "model_name": mlflow})
    return HubTarget.model_validate({"kind": "hub", "repo": hub, "private": not public, "commit_message": message})


def _curl(url: str, deployment: AdapterDeployment) -> str:
    question = {"role": "user", "content": "What is the capital of Kenya?"}
    body = json.dumps({"model": deployment.model, "messages": [question], "max_tokens": 50})
    # Others may read terminals and CI logs, so a password in the address is not shown.
    target = httpx.URL(url).copy_with(userinfo=b"").join(deployment.links.chat_completions)
    return f"curl {shlex.quote(str(target))} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
