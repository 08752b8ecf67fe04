"""`craft`: run the system, submit jobs to it, and fetch their results."""

import io
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from typer.exceptions import TyperException

from craft_cli.commands import accounts, completion, datasets, gc, jobs, login, models, results, stack, webhooks
from craft_cli.failures import EXIT_CODES, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, problem_of

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__, epilog=EXIT_CODES)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - the framework passes it so
    if wanted:
        print(f"craft {version('craft-rait')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    shown: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run the system, submit jobs to it, and fetch their results."""


app.add_typer(stack.app)  # craft up, down, demo
app.add_typer(login.app)  # craft login, logout
app.add_typer(accounts.app)  # craft me, queue, audit, keys …, teams …
app.add_typer(gc.app)  # craft gc
app.add_typer(completion.app)  # craft completion
app.add_typer(jobs.app, name="jobs")
jobs.app.add_typer(results.app)  # craft jobs events, artifacts, report, download, …
app.add_typer(datasets.app, name="datasets")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(models.app, name="models")


def main() -> None:
    """Run the `craft` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without Unicode shows question marks instead of a stack trace.
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
        # The reader of the output has closed it. Without this, Python would report the pipe again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
