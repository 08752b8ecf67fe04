"""`craft up`, `craft down`, `craft demo`: the whole system on this machine."""

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from craft.core.questions import Task
from craft.infra.settings.settings import Settings
from craft.infra.storage.state_folder import check_database_present, make_empty_database
from craft_cli import demo as demonstration
from craft_cli.commands.datasets import TaskOption
from craft_cli.failures import EXIT_FAILED, fail, report_errors
from craft_cli.output import print_json
from craft_cli.session import AsJson, epilog
from craft_cli.stack import (
    Stack,
    check_ports,
    check_training_device,
    lock_state_folder,
    stack_process_id,
    unused_gpu,
)

app = typer.Typer()
StateDir = Annotated[
    Path, typer.Option("--state-dir", envvar="CRAFT_STATE_DIR", help="The folder of all data and logs.")
]
_STATE = Path(".craft")
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.1


@app.command(epilog=epilog("craft up --state-dir .craft"))
def up(
    *,
    state_dir: StateDir = _STATE,
    new_database: Annotated[
        bool,
        typer.Option("--new-database", help="Begin with an empty database although artifacts of a lost one are there."),
    ] = False,
) -> None:
    """Run the whole system in the foreground until Ctrl-C. Unfinished jobs continue at the next start."""
    with report_errors(), lock_state_folder(state_dir):
        settings = Settings(state_dir=state_dir)
        if new_database:
            make_empty_database(settings)
        check_database_present(settings)
        check_ports(settings)
        check_training_device(settings, os.environ)
        say = Console(stderr=True).print
        if (notice := unused_gpu(settings, os.environ)) is not None:
            say(notice)
        Stack(settings, say=say).run()


@app.command()
def down(*, state_dir: StateDir = _STATE, as_json: AsJson = False) -> None:
    """Stop the system that runs on this state folder."""
    pid = stack_process_id(state_dir)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while stack_process_id(state_dir) is not None:
            if time.monotonic() > deadline:
                fail(f"Process {pid} does not stop.", EXIT_FAILED, as_json=as_json)
            time.sleep(_POLL_SECONDS)
    if as_json:
        print_json({"stopped": pid is not None, "pid": pid})
    else:
        print("Nothing runs." if pid is None else "Stopped.")


@app.command(epilog=epilog("craft demo --task multiple-choice"))
def demo(
    *,
    task: TaskOption = Task.OPEN_ENDED,
    seed: Annotated[int, typer.Option(min=0, help="Seeds sampling, selection and training.")] = 42,
    state_dir: StateDir = _STATE,
    as_json: AsJson = False,
) -> None:
    """Teach SmolLM2 to say "I don't know" when it does not know, and show the gain and the cost."""
    with report_errors(as_json=as_json):
        demonstration.run(Settings(state_dir=state_dir), task=task, seed=seed, as_json=as_json)
