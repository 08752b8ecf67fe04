"""What can go wrong for a caller of the API.

ClientError
├── ApiError             the server answered with a problem document
├── ConfigError          an address, key or profile that cannot be used
├── JobFailed            the job ended, but not in success
├── ServerUnreachable    nobody answered
└── UnexpectedAnswer     a success that this client cannot read
"""

import httpx
from pydantic import ValidationError

from craft.contracts.problems import Problem
from craft.contracts.public.jobs import JobView
from craft.errors import Fault


class ClientError(Exception):
    """Base of the client's errors."""


class ConfigError(ClientError):
    """An address, key or profile cannot be used; nothing was sent."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{message}\nHint: {hint}" if hint else message)


class ApiError(ClientError):
    """The server's problem document; its text is what happened and what to do about it."""

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
        """The error of a response that is none of ours too (a proxy's page, say)."""
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
    """The job failed or was cancelled; `job` is its last view."""

    def __init__(self, job: JobView) -> None:
        lines = [f"{job.id} {job.status}"]
        if job.error is not None:
            lines[0] += f" in {job.error.stage}: {job.error.message} [{job.error.code}]"
            if job.error.hint:
                lines.append(f"Hint: {job.error.hint}")
        super().__init__("\n".join(lines))
        self.job = job


class ServerUnreachable(ClientError):
    """No connection within the retries."""


class UnexpectedAnswer(ClientError):
    """The answer has a form that this client does not know: a server of another time, or a proxy's page."""
