"""What every command shares: the connection's options, output for people or programs, how errors end the program.

Exit codes: 0 done; 1 the server or this machine could not do it; 2 wrong input; 3 nobody answers; 4 not found;
5 not allowed; 6 the job ended without success; 130 interrupted (a job that runs goes on).
"""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Concatenate, NoReturn, ParamSpec

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from craft.contracts.problems import Problem
from craft.errors import CraftError, Fault
from craft_client import ApiError, Client, ClientError, ConfigError, JobFailed, ServerUnreachable

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_NOT_FOUND = 4
EXIT_NOT_ALLOWED = 5
EXIT_JOB_FAILED = 6
EXIT_INTERRUPTED = 130
_EXIT_OF_STATUS = {400: EXIT_USAGE, 401: EXIT_NOT_ALLOWED, 403: EXIT_NOT_ALLOWED, 404: EXIT_NOT_FOUND} | dict.fromkeys(
    (413, 422), EXIT_USAGE
)
_PIPED_COLUMNS = 10_000
EXIT_CODES = (
    "Exit codes: 0 done, 1 could not be done, 2 wrong input, 3 no server answers, 4 not found, 5 not allowed, "
    "6 the job ended without success, 130 interrupted."
)

Url = Annotated[str | None, typer.Option("--url", help="The gateway's address. [env: CRAFT_URL]", show_default=False)]
TeamOption = Annotated[str | None, typer.Option("--team", help="Which of your teams. [env: CRAFT_TEAM]")]
ProfileOption = Annotated[str | None, typer.Option("--profile", help="Of `craft login`. [env: CRAFT_PROFILE]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text for people.")]
Parameters = ParamSpec("Parameters")


@dataclass(frozen=True, slots=True)
class Session:
    """A client, and how to show what it answers."""

    client: Client
    as_json: bool

    def show(self, value: BaseModel | dict[str, Any], *lines: object) -> None:
        """The value as JSON, or the lines for people: texts and tables."""
        if self.as_json:
            show_json(value)
            return
        for line in lines:
            if isinstance(line, Table):
                print_table(line)
            else:
                print(line)


def remote(
    app: typer.Typer, name: str | None = None, *, example: str = ""
) -> Callable[[Callable[Concatenate[Session, Parameters], None]], Callable[Concatenate[Session, Parameters], None]]:
    """Register a command that speaks to a server: it gets a session, and the user --url, --team, --profile, --json."""

    def registered(
        command: Callable[Concatenate[Session, Parameters], None],
    ) -> Callable[Concatenate[Session, Parameters], None]:
        @functools.wraps(command)
        def run(*, url: str | None, team: str | None, profile: str | None, as_json: bool, **words: Any) -> None:
            with reported(as_json=as_json), Client(url, team=team, profile=profile) as client:
                command(Session(client, as_json), **words)  # type: ignore[call-arg] # what the signature below says

        own = list(inspect.signature(command).parameters.values())[1:]
        shared = [
            inspect.Parameter("url", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Url),
            inspect.Parameter("team", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=TeamOption),
            inspect.Parameter("profile", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ProfileOption),
            inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson),
        ]
        given = {parameter.name for parameter in own}
        parameters = [*own, *(parameter for parameter in shared if parameter.name not in given)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # functions take any attribute
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, epilog=epilog(example))(run)
        return command

    return registered


def epilog(example: str) -> str:
    """What stands below a command's options."""
    return f"Example: `{example}`\n\n{EXIT_CODES}" if example else EXIT_CODES


@contextmanager
def reported(*, as_json: bool = False) -> Iterator[None]:
    """Turn known errors into a message on standard error and an exit code; anything else is a defect and shows."""
    try:
        yield
    except (ClientError, CraftError, ValidationError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        fail(error, as_json=as_json)
    except KeyboardInterrupt:
        error_console().print("Interrupted.")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def fail(error: Exception | str, code: int | None = None, *, as_json: bool = False) -> NoReturn:
    """Say why and end; `code` is by default the error's own."""
    if as_json:
        sys.stderr.write(problem_of(error).model_dump_json(indent=2) + "\n")
    else:
        error_console().print(_message(error), style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(_exit_code(error) if code is None else code)


def problem_of(error: Exception | str) -> Problem:
    """Any error as a problem document: the server's own, or one in its form."""
    if isinstance(error, ApiError):
        return error.problem
    if isinstance(error, CraftError):
        return Problem.of(error)
    if isinstance(error, JobFailed):
        return _job_problem(error)
    if isinstance(error, ServerUnreachable):
        return _problem("unreachable", 503, _message(error), Fault.SYSTEM)
    usage = isinstance(error, str | ConfigError | ValidationError)
    return _problem("usage" if usage else "failed", 400 if usage else 500, _message(error), Fault.USER)


def _job_problem(failed: JobFailed) -> Problem:
    error = failed.job.error
    if error is None:
        return _problem(f"job_{failed.job.status.value}", 409, str(failed), Fault.USER)
    status = 422 if error.fault is Fault.USER else 500
    found = _problem(error.code, status, error.message, error.fault)
    return found.model_copy(
        update={"retryable": error.retryable, "hint": error.hint, "param": error.param, "errors": error.errors}
    )


def _problem(code: str, status: int, detail: str, fault: Fault) -> Problem:
    return Problem(
        type=f"urn:craft:problem:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        detail=detail,
        code=code,
        fault=fault,
        retryable=status == 503,
    )


def _message(error: Exception | str) -> str:
    if isinstance(error, CraftError):
        return error.message + (f"\nHint: {error.hint}" if error.hint else "")
    if isinstance(error, ServerUnreachable):
        return f"{error}\nHint: start the system with `craft up`, or name it with --url."
    return str(error)


def _exit_code(error: Exception | str) -> int:
    if isinstance(error, ApiError):
        return _EXIT_OF_STATUS.get(error.problem.status, EXIT_FAILED)
    if isinstance(error, JobFailed):
        return EXIT_JOB_FAILED
    if isinstance(error, ServerUnreachable):
        return EXIT_UNREACHABLE
    return EXIT_USAGE if isinstance(error, str | ConfigError | ValidationError | FileNotFoundError) else EXIT_FAILED


def show_json(value: BaseModel | dict[str, Any]) -> None:
    """One JSON document on standard output."""
    text = (
        value.model_dump_json(indent=2, by_alias=True) if isinstance(value, BaseModel) else json.dumps(value, indent=2)
    )
    sys.stdout.write(text + "\n")


def print_table(table: Table) -> None:
    """With lines and colours on a terminal; elsewhere plain and never cut, for grep and awk."""
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    if table.title is not None:
        # A title is folded to its table's width, where grep would not find it.
        print(Text.from_markup(str(table.title)).plain)
        table.title = None
    table.box = None
    table.pad_edge = False
    Console(width=_PIPED_COLUMNS, no_color=True, highlight=False).print(table)


def error_console() -> Console:
    """Where progress and errors go: standard error, so that output stays clean."""
    return Console(file=sys.stderr)
