"""Turns errors into a message on standard error and an exit code.

Exit codes: 0 done; 1 the server or this machine could not do it; 2 wrong input; 3 no server answers; 4 not found;
5 not allowed; 6 the job ended without success; 130 interrupted (a running job continues).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from pydantic import ValidationError

from craft.contracts.problems import Problem
from craft.errors import CraftError, Fault
from craft_cli.output import error_console
from craft_cli.tables.cells import finding_lines
from craft_client import ApiError, ClientError, ConfigError, JobFailed, ServerUnreachable

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_NOT_FOUND = 4
EXIT_NOT_ALLOWED = 5
EXIT_JOB_FAILED = 6
EXIT_INTERRUPTED = 130
EXIT_CODES = (
    "Exit codes: 0 done, 1 could not be done, 2 wrong input, 3 no server answers, 4 not found, 5 not allowed, "
    "6 the job ended without success, 130 interrupted."
)
_EXIT_OF_STATUS = {400: EXIT_USAGE, 401: EXIT_NOT_ALLOWED, 403: EXIT_NOT_ALLOWED, 404: EXIT_NOT_FOUND} | dict.fromkeys(
    (413, 422), EXIT_USAGE
)


@contextmanager
def report_errors(*, as_json: bool = False) -> Iterator[None]:
    """Report known errors and end the program. Any other exception is a defect and shows its stack trace."""
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
    """Print the error and end the program. The default `code` is the error's own."""
    if as_json:
        sys.stderr.write(problem_of(error).model_dump_json(indent=2) + "\n")
    else:
        error_console().print(_message(error), style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(_exit_code(error) if code is None else code)


def problem_of(error: Exception | str) -> Problem:
    """Any error as a problem document: the server's own, or one in the same form."""
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
    problem = _problem(error.code, status, error.message, error.fault)
    return problem.model_copy(
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
    findings = error.problem.findings if isinstance(error, ApiError) else []
    return "\n".join([str(error), *finding_lines(findings)])


def _exit_code(error: Exception | str) -> int:
    if isinstance(error, ApiError):
        return _EXIT_OF_STATUS.get(error.problem.status, EXIT_FAILED)
    if isinstance(error, JobFailed):
        return EXIT_JOB_FAILED
    if isinstance(error, ServerUnreachable):
        return EXIT_UNREACHABLE
    return EXIT_USAGE if isinstance(error, str | ConfigError | ValidationError | FileNotFoundError) else EXIT_FAILED
