"""Turns errors into a message on standard error and an exit code.

Exit codes: 0 done; 1 the server or this machine could not do it; 2 wrong input; 3 no server answers; 4 not found;
5 not allowed; 6 the job ended without success; 7 not in this state; 130 interrupted (a running job continues).
"""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import typer
from pydantic import ValidationError

from craft.contracts.problems import Problem
from craft.contracts.validation import validation_message
from craft.errors import CraftError, Fault
from craft.infra.settings.settings import Settings
from craft_cli.output import error_console, wrapped
from craft_cli.tables.cells import finding_lines
from craft_client import ApiError, ClientError, ConfigError, InvalidId, JobFailed, ServerUnreachable

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_NOT_FOUND = 4
EXIT_NOT_ALLOWED = 5
EXIT_JOB_FAILED = 6
EXIT_STATE = 7
EXIT_INTERRUPTED = 130
EXIT_CODES = (
    "Exit codes: 0 done, 1 could not be done, 2 wrong input, 3 no server answers, 4 not found, 5 not allowed, "
    "6 the job ended without success, 7 not in its present state (such as the report of a running job), "
    "130 interrupted."
)
_EXIT_OF_STATUS = {
    400: EXIT_USAGE,
    401: EXIT_NOT_ALLOWED,
    403: EXIT_NOT_ALLOWED,
    404: EXIT_NOT_FOUND,
    409: EXIT_STATE,
    413: EXIT_USAGE,
    422: EXIT_USAGE,
}
_METHOD_AND_PATH = re.compile(r"`?(?:GET|POST|PUT|PATCH|DELETE) /[^`\s;,]*[^`\s;,.]`?")
_ACCEPT = re.compile(r'send "accept": \[([^\]]*)\]')
_COMMANDS: Mapping[str, str] = {
    r"GET /craft/jobs": "craft jobs ls",
    r"GET /craft/jobs/[^/]+\?wait=\d+": "craft jobs watch",
    r"POST /craft/jobs/(?P<id>[^/]+)/retry": "craft jobs retry {id}",
    r"GET /craft/datasets": "craft datasets ls",
    r"POST /craft/datasets": "craft datasets add",
    r"GET /craft/api-keys": "craft keys ls",
    r"GET /craft/webhooks": "craft webhooks ls",
    r"PATCH /craft/webhooks/[^/]+": "craft webhooks set --active",
    r"GET /craft/webhooks/[^/]+/deliveries": "craft webhooks deliveries",
    r"GET /craft/teams": "craft teams ls",
    r"PUT /craft/teams/(?P<id>[^/]+)": "craft teams set {id}",
    r"GET /craft/me": "craft me",
    r"GET /craft/queue": "craft queue",
    r"GET /craft/models": "craft models ls",
    r"GET /v1/models": "craft models ls",
}
"""The command that makes each call which the server's hints name."""
_PHRASES: Mapping[str, str] = {
    "Say with `strategy` one of": "Say with `--strategy` one of",
    "Leave Craft-Team out, or name a team": "Leave `--team` out, or name a team",
    "say with `columns` which is which": "say with `--column OURS=THEIRS` which is which",
    "Send task=multiple_choice, or task=open_ended": "Say `--task multiple-choice`, or `--task open-ended`",
    'mapped with `columns`, such as {"choices": ["A", "B", "C", "D"]}': "mapped with `--column choices=A,B,C,D`",
    '"answer_base": ': "--answer-base ",
    "Name in `from_stage` where": "Name with `--from` where",
    ' with {"active": true}': "",
    " as multipart/form-data": "",
    "`errors` names each field that is wrong; /docs shows the form of every request.": "The lines above name each "
    "field that is wrong; `craft jobs validate` shows a job with all its fields.",
}


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
        console, message = error_console(), message_of(error)
        text = wrapped(message, console.width) if console.is_terminal else message
        console.print(text, style="red", highlight=False, markup=False, emoji=False, soft_wrap=True)
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
        return _problem("unreachable", 503, message_of(error), Fault.SYSTEM)
    usage = isinstance(error, str | ConfigError | InvalidId | ValidationError)
    return _problem("usage" if usage else "failed", 400 if usage else 500, message_of(error), Fault.USER)


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


def in_commands(hint: str) -> str:
    """A hint of the server, which speaks of HTTP, in the words of this command."""
    for server, ours in _PHRASES.items():
        hint = hint.replace(server, ours)
    hint = _ACCEPT.sub(_acceptance_of, hint)
    return _METHOD_AND_PATH.sub(_command_of, hint)


def _acceptance_of(accept: "re.Match[str]") -> str:
    """The option of `craft datasets add` that accepts the same, beside the member of a job."""
    options = " ".join(f"--accept {code}" for code in re.findall(r"\w+", accept[1]))
    return f'say `{options}` with a dataset, or "accept": [{accept[1]}] in a job'


def _command_of(call: "re.Match[str]") -> str:
    """The command for a call of the API; the call itself if there is none."""
    bare = call[0].strip("`")
    for pattern, command in _COMMANDS.items():
        if found := re.fullmatch(pattern, bare):
            return f"`{command.format_map(found.groupdict())}`"
    return call[0]


def message_of(error: Exception | str) -> str:
    """The error for people, with its hint in the words of this command."""
    if isinstance(error, ApiError):
        told = error.problem.model_copy(update={"hint": in_commands(error.problem.hint or "") or None})
        return "\n".join([str(ApiError(told)), *finding_lines(error.problem.findings)])
    if isinstance(error, JobFailed) and error.job.error is not None and error.job.error.hint:
        of_job = error.job.error.model_copy(update={"hint": in_commands(error.job.error.hint)})
        return str(JobFailed(error.job.model_copy(update={"error": of_job})))
    if isinstance(error, ValidationError):
        return "\n".join(_invalid_lines(error))
    if isinstance(error, CraftError):
        return error.message + (f"\nHint: {error.hint}" if error.hint else "")
    if isinstance(error, ServerUnreachable):
        return f"{error}\nHint: start the system with `craft up`, or name it with --url."
    return str(error)


def _invalid_lines(invalid: ValidationError) -> Iterator[str]:
    """The wrong values of the environment's settings, or of another input that is no request."""
    settings = invalid.title == Settings.__name__
    yield "The settings of the environment cannot be used." if settings else "The input cannot be used."
    for error in invalid.errors():
        parts = [str(part) for part in error["loc"]]
        name = f"CRAFT_{'__'.join(parts).upper()}" if settings else ".".join(parts)
        yield f"  {name}: {validation_message(error)}"


def _exit_code(error: Exception | str) -> int:
    if isinstance(error, ApiError):
        return _EXIT_OF_STATUS.get(error.problem.status, EXIT_FAILED)
    if isinstance(error, CraftError):
        return _EXIT_OF_STATUS.get(error.status, EXIT_FAILED)
    if isinstance(error, JobFailed):
        return EXIT_JOB_FAILED
    if isinstance(error, ServerUnreachable):
        return EXIT_UNREACHABLE
    usage = isinstance(error, str | ConfigError | InvalidId | ValidationError | FileNotFoundError)
    return EXIT_USAGE if usage else EXIT_FAILED
