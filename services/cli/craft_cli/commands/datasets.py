"""`craft datasets …`"""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from craft.contracts.services.datasets import DatasetFormat
from craft.contracts.spec.dataset_sources import HttpsSource, HubSource, S3Source
from craft.core.findings import FindingCode
from craft.core.questions import Task
from craft_cli.arguments import column_map, first_error
from craft_cli.failures import fail
from craft_cli.lookup import DATASETS
from craft_cli.output import tell
from craft_cli.session import Session, server_command
from craft_cli.tables import datasets
from craft_cli.tables.cells import finding_lines

app = typer.Typer(no_args_is_help=True, help="Upload, show, compare and delete datasets.")
DatasetId = Annotated[
    str,
    typer.Argument(help="dset_… or its beginning, or a name.", show_default=False, autocompletion=DATASETS.completions),
    DATASETS,
]
_FORM = "OWNER/NAME for --hub, a path in the repository for --file, s3://BUCKET/KEY for --s3"
_ID = "dset_01jgywz3x4v5q6r7s8t9vawbxc"


def _task(value: str) -> Task:
    """A task by its name, with hyphens or underscores."""
    try:
        return Task(value.replace("-", "_"))
    except ValueError:
        raise typer.BadParameter(f"{value!r} is neither open-ended nor multiple-choice.") from None


TaskOption = Annotated[Task, typer.Option("--task", parser=_task, metavar="open-ended|multiple-choice")]


@server_command(
    app, "add", example="craft datasets add facts.jsonl --column question=prompt --column answers=completion"
)
def add(
    session: Session,
    path: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="JSONL, JSON, CSV or Parquet.")
    ] = None,
    *,
    from_url: Annotated[str | None, typer.Option(help="Instead, a file at a public https address.")] = None,
    hub: Annotated[
        str | None, typer.Option(help="Instead, OWNER/NAME of a dataset on the model hub; needs --file.")
    ] = None,
    file: Annotated[str | None, typer.Option(help="The file in the hub's repository.")] = None,
    revision: Annotated[str | None, typer.Option(help="The hub's branch, tag or commit; by default main.")] = None,
    s3: Annotated[str | None, typer.Option(help="Instead, s3://BUCKET/KEY.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="OURS=THEIRS, such as question=prompt or choices=A,B,C,D; may be repeated."),
    ] = None,
    task: Annotated[
        Task | None,
        typer.Option(parser=_task, metavar="open-ended|multiple-choice", help="Rows with options need it."),
    ] = None,
    answer_base: Annotated[
        int | None, typer.Option(min=0, max=1, help="The number of the first option's key; by default 0.")
    ] = None,
    accept: Annotated[
        list[FindingCode] | None, typer.Option(help="A finding to go on with; may be repeated.", metavar="CODE")
    ] = None,
    name: Annotated[str | None, typer.Option(help="By default the file's name.")] = None,
    form: Annotated[DatasetFormat, typer.Option("--format", help="`auto` detects it.")] = DatasetFormat.AUTO,
) -> None:
    """Upload a dataset, or let the server fetch it, and print its id.

    Wrong rows are listed with line and field. What else was noticed goes to standard error.
    """
    reading: dict[str, Any] = {"task": task, "name": name, "format": form, "answer_base": answer_base}
    reading |= {"columns": column_map(column, session) or None, "accept": accept or ()}
    if sum(place is not None for place in (path, from_url, hub, s3)) != 1:
        fail("Say which: a file, --from-url, --hub or --s3.", as_json=session.as_json)
    if hub is None and (file or revision):
        fail("--file and --revision are for --hub.", as_json=session.as_json)
    if hub is not None and not file:
        fail("--hub needs --file: the file in the repository.", as_json=session.as_json)
    if path is not None:
        view = session.client.datasets.upload(path, **reading)
    else:
        try:
            source = _source(from_url=from_url, hub=hub, file=file, revision=revision, s3=s3)
        except ValidationError as error:
            fail(first_error(error, form=_FORM), as_json=session.as_json)
        view = session.client.datasets.fetch(source, **reading)
    session.show(view, view.id)
    if not session.as_json:
        tell(finding_lines(view.findings))


@server_command(app, "ls", example="craft datasets ls --json")
def list_datasets(
    session: Session,
    *,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
) -> None:
    """List datasets, newest first."""
    page = session.client.datasets.list(limit=limit, after=after)
    session.show(page, datasets.datasets(page.data))


@server_command(app, "get", example=f"craft datasets get {_ID}")
def get(session: Session, dataset_id: DatasetId) -> None:
    """Show one dataset, with its source and statistics."""
    view = session.client.datasets.get(dataset_id)
    findings = finding_lines(view.findings)
    statistics = view.statistics.model_dump_json(indent=2)
    session.show(view, datasets.datasets([view]), *datasets.origin(view), *findings, statistics)


@server_command(app, "preview", example=f"craft datasets preview {_ID} --rows 2")
def preview(
    session: Session,
    dataset_id: DatasetId,
    *,
    rows: Annotated[int, typer.Option(min=1, max=50, help="The number of rows.")] = 5,
    base_model: Annotated[str | None, typer.Option(help="Render prompts with this model's chat template.")] = None,
) -> None:
    """Show a dataset's first rows, with the prompts and targets that a model gets for each."""
    view = session.client.datasets.preview(dataset_id, limit=rows, base_model=base_model)
    session.show(view, *datasets.preview(view))


@server_command(app, "overlap", example=f"craft datasets overlap {_ID} dset_01jgywz3x4v5q6r7s8t9vawbxd")
def overlap(
    session: Session,
    dataset_id: DatasetId,
    other: Annotated[str, typer.Argument(help="The other dataset.", show_default=False), DATASETS],
) -> None:
    """Show the questions that two datasets share: a test set should share none with training."""
    view = session.client.datasets.overlap(dataset_id, other)
    session.show(view, *datasets.overlap(view))


@server_command(app, "rm", example=f"craft datasets rm {_ID}")
def remove(session: Session, dataset_id: DatasetId) -> None:
    """Delete a dataset that no unfinished job reads. Finished jobs keep their results."""
    session.client.datasets.delete(dataset_id)
    session.show({"id": dataset_id, "deleted": True}, "deleted")


def _source(
    *, from_url: str | None, hub: str | None, file: str | None, revision: str | None, s3: str | None
) -> HttpsSource | HubSource | S3Source:
    """The source that the options name. Raises ValidationError."""
    if from_url is not None:
        return HttpsSource(kind="https", url=from_url)
    if s3 is not None:
        return S3Source(kind="s3", uri=s3)
    fields = {"kind": "hub", "repo": hub, "file": file, "revision": revision}
    return HubSource.model_validate({name: value for name, value in fields.items() if value is not None})
