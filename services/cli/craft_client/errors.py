"""The errors of the client.

ClientError
├── ApiError             the server answered with a problem document
├── ConfigError          an address, key or profile cannot be used
├── InvalidId            an argument is no id
├── JobFailed            the job ended without success
├── ServerUnreachable    no server answered
└── UnexpectedAnswer     the client cannot read a successful response
"""

import httpx
from pydantic import ValidationError

from craft.contracts.problems import Problem
from craft.contracts.public.jobs import JobView
from craft.errors import Fault


class ClientError(Exception):
    """The base class of the client's errors."""


class ConfigError(ClientError):
    """An address, key or profile cannot be used; nothing was sent."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{message}\nHint: {hint}" if hint else message)


class InvalidId(ClientError):
    """An argument is no id; nothing was sent."""


class ApiError(ClientError):
    """The server's problem document. Its text is the problem's detail, rows and hint."""

    def __init__(self, problem: Problem) -> None:
        lines = [f"{problem.detail} [{problem.code}]"]
        lines += [
            f"  {'line ' + str(e.line) + ': ' if e.line else ''}{e.field + ': ' if e.field else ''}{e.message}"
            for e in problem.errors
        ]
        if problem.hint:
            lines.append(f"Hint: {problem.hint}")
        super().__init__("\n".join(lines))
        self.problem = problem

    @classmethod
    def of(cls, response: httpx.Response) -> "ApiError":
        """The error of a response, also of one that is no problem document (such as a proxy's page)."""
        try:
            return cls(Problem.model_validate_json(response.content))
        except ValidationError:
            return cls(
                Problem(
                    type="about:blank",
                    title="Unexpected answer",
                    status=response.status_code,
                    detail=f"{response.request.url.path} answered {response.status_code} and no problem document.",
                    code="unexpected_answer",
                    fault=Fault.SYSTEM,
                    retryable=response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR,
                )
            )


class JobFailed(ClientError):
    """The job failed or was cancelled. `job` is its last view."""

    def __init__(self, job: JobView) -> None:
        lines = [f"{job.id} {job.status}"]
        if job.error is not None:
            lines[0] += f" in {job.error.stage}: {job.error.message} [{job.error.code}]"
            if job.error.hint:
                lines.append(f"Hint: {job.error.hint}")
        super().__init__("\n".join(lines))
        self.job = job


class ServerUnreachable(ClientError):
    """No attempt got a response."""


class UnexpectedAnswer(ClientError):
    """The client does not know the response's form: it came from another version of the server, or from a proxy."""
