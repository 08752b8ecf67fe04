"""`craft jobs …`: what jobs made - events, artifacts, report, adapter, deployment, comparison, publications."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError

from craft.contracts.documents.report import ReportDocument
from craft.contracts.public.publishing import HubTarget, MlflowTarget
from craft.contracts.public.serving import AdapterDeployment
from craft.core.strategies import Strategy
from craft_cli.arguments import refusal
from craft_cli.commands.jobs import JobId
from craft_cli.commands.jobs import app as job_app
from craft_cli.session import Session, fail, print_table, remote
from craft_cli.tables import comparison, listings

jobs = job_app
"""`craft jobs`, whole only once this file is read."""
WhichAdapter = Annotated[Strategy | None, typer.Option("--strategy", help="Which adapter, where the job has several.")]


@remote(jobs, example="craft jobs events cjob_01jgywz3x4v5q6r7s8t9vawbxc --after 12")
def events(
    session: Session,
    job_id: JobId,
    *,
    after: Annotated[int, typer.Option(min=0, help="Only events with a higher number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
) -> None:
    """Print what happened to a job so far."""
    found = session.client.jobs.events(job_id, after=after, limit=limit)
    session.show(found, listings.events(found.data))


@remote(jobs, example="craft jobs artifacts cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def artifacts(session: Session, job_id: JobId) -> None:
    """List what the job's stages wrote."""
    found = session.client.jobs.artifacts(job_id)
    session.show(found, listings.artifacts(found.data))


@remote(jobs, example="craft jobs report cjob_01jgywz3x4v5q6r7s8t9vawbxc -o report.html")
def report(
    session: Session,
    job_id: JobId,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Save it here: JSON where the name ends so, else HTML.")
    ] = None,
) -> None:
    """Print a finished job's table, or save its report."""
    if output is not None:
        form = "json" if output.suffix == ".json" else "html"
        saved = session.client.jobs.open(job_id).download_report(output, form=form)
        session.show({"path": str(saved)}, saved)
    elif session.as_json:
        sys.stdout.write(session.client.jobs.report_json(job_id).decode() + "\n")
    else:
        print_report(session.client.jobs.report(job_id))


@remote(jobs, example="craft jobs download cjob_01jgywz3x4v5q6r7s8t9vawbxc -o adapter.tar.gz")
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


@remote(jobs, example="craft jobs deploy cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def deploy(session: Session, job_id: JobId, *, strategy: WhichAdapter = None) -> None:
    """Serve a job's adapter; print its model name and how to ask it."""
    deployment = session.client.jobs.deploy(job_id, strategy=strategy)
    session.show(deployment, deployment.model, _curl(session.client.base_url, deployment))


@remote(jobs, example="craft jobs undeploy cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def undeploy(session: Session, job_id: JobId, *, strategy: WhichAdapter = None) -> None:
    """Serve a job's adapter no longer."""
    session.client.jobs.undeploy(job_id, strategy=strategy)
    session.show({"job_id": job_id, "deployed": False}, "not deployed")


@remote(jobs, example="craft jobs compare cjob_01jgywz3x4v5q6r7s8t9vawbxc cjob_01jgywz3x4v5q6r7s8t9vawbxd")
def compare(
    session: Session,
    job_ids: Annotated[list[str], typer.Argument(help="Two to ten ids: cjob_… cjob_…", show_default=False)],
) -> None:
    """Show jobs side by side: parameters that differ, metrics, and paired differences with 95 % intervals."""
    found = session.client.jobs.compare(job_ids)
    reasons = (f"• {line}" for line in comparison.reasons(found))
    session.show(found, *comparison.tables(found), *reasons)


@remote(jobs, example="craft jobs publish cjob_01jgywz3x4v5q6r7s8t9vawbxc --hub acme/support-qa")
def publish(
    session: Session,
    job_id: JobId,
    *,
    mlflow: Annotated[str | None, typer.Option(help="The registered model that gets a new version.")] = None,
    hub: Annotated[str | None, typer.Option(help="The hub repository, owner/name.")] = None,
    public: Annotated[bool, typer.Option("--public", help="A hub repository that everybody may read.")] = False,
    message: Annotated[str | None, typer.Option(help="The hub's commit message.")] = None,
    strategy: WhichAdapter = None,
) -> None:
    """Publish a job's adapter to MLflow or a hub; `craft jobs publications` tells how that goes."""
    if (mlflow is None) == (hub is None):
        fail("Say where to: --mlflow MODEL or --hub OWNER/NAME.", as_json=session.as_json)
    if hub is None and (public or message is not None):
        fail("--public and --message are for --hub.", as_json=session.as_json)
    try:
        to = _target(mlflow=mlflow, hub=hub, public=public, message=message)
    except ValidationError as error:
        form = "a name of letters, digits, spaces and ._-" if hub is None else "OWNER/NAME of letters, digits and ._-"
        fail(refusal(error, form=form), as_json=session.as_json)
    found = session.client.jobs.publish(job_id, to, strategy=strategy)
    session.show(found, comparison.publication_line(found))


@remote(jobs, example="craft jobs publications cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def publications(session: Session, job_id: JobId) -> None:
    """Show where a job's adapters were published, or why not."""
    found = session.client.jobs.publications(job_id)
    session.show(found, *(comparison.publication_line(each) for each in found.data))


def _target(*, mlflow: str | None, hub: str | None, public: bool, message: str | None) -> MlflowTarget | HubTarget:
    """Raises ValidationError."""
    if hub is None:
        return MlflowTarget.model_validate({"kind": "mlflow", "model_name": mlflow})
    return HubTarget.model_validate({"kind": "hub", "repo": hub, "private": not public, "commit_message": message})


def print_report(document: ReportDocument) -> None:
    """The headline tables and what they mean."""
    for report_set in document.sets:
        print_table(listings.results(report_set))
    for line in listings.comparisons(document):
        print(f"• {line}")


def _curl(url: str, deployment: AdapterDeployment) -> str:
    question = {"role": "user", "content": "What is the capital of Kenya?"}
    body = json.dumps({"model": deployment.model, "messages": [question], "max_tokens": 50})
    # Terminals and CI logs are read by others: a password in the address stays out.
    target = httpx.URL(url).copy_with(userinfo=b"").join(deployment.links.chat_completions)
    return f"curl {shlex.quote(str(target))} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
