"""`craft datasets …`"""

from pathlib import Path
from typing import Annotated

import typer

from craft.contracts.rest_datasets import DatasetFormat
from craft.core.questions import Task
from craft_cli import tables
from craft_cli.session import Session, remote

app = typer.Typer(no_args_is_help=True, help="Upload and look at datasets.")


def _task(value: str) -> Task:
    """A task by its name, written with hyphens or with underscores."""
    try:
        return Task(value.replace("-", "_"))
    except ValueError:
        raise typer.BadParameter(f"{value!r} is neither open-ended nor multiple-choice.") from None


TaskOption = Annotated[Task, typer.Option("--task", parser=_task, metavar="open-ended|multiple-choice")]


@remote(app, "add", example="craft datasets add facts.jsonl --task open-ended")
def add(
    session: Session,
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSONL, JSON, CSV or Parquet.")],
    *,
    task: TaskOption = Task.OPEN_ENDED,
    name: Annotated[str | None, typer.Option(help="By default the file's.")] = None,
    form: Annotated[DatasetFormat, typer.Option("--format", help="`auto` looks at the bytes.")] = DatasetFormat.AUTO,
) -> None:
    """Upload a dataset and print its id; wrong rows are listed with line and field."""
    view = session.client.datasets.upload(path, task=task, name=name, format=form)
    session.show(view, view.id)


@remote(app, "ls", example="craft datasets ls --json")
def list_datasets(
    session: Session,
    *,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
) -> None:
    """List datasets, newest first."""
    found = session.client.datasets.list(limit=limit, after=after)
    session.show(found, tables.datasets(found.data))


@remote(app, "get", example="craft datasets get dset_01jgywz3x4v5q6r7s8t9vawbxc")
def get(session: Session, dataset_id: Annotated[str, typer.Argument(help="dset_…", show_default=False)]) -> None:
    """Show one dataset with what it holds."""
    view = session.client.datasets.get(dataset_id)
    session.show(view, tables.datasets([view]), view.statistics.model_dump_json(indent=2))
