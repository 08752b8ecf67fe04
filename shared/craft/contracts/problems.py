"""Errors as they travel: RFC 9457 problem+json, and the same members inside a failed job."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from craft.contracts.base import Contract
from craft.errors import CraftError, DatasetInvalid, Fault

PROBLEM_MEDIA_TYPE = "application/problem+json"
_MOST_DETAILS = 100


def validation_message(invalid: Mapping[str, Any]) -> str:
    """The message of one of pydantic's errors: what a validator of ours says, without pydantic's words before it."""
    return str(invalid.get("msg", "invalid")).removeprefix("Value error, ").removeprefix("Assertion failed, ")


class ProblemDetail(Contract):
    """One place in the input that is wrong; `line` counts from 1."""

    message: str
    field: str | None = None
    line: int | None = None
    excerpt: str | None = None


class Problem(Contract):
    """RFC 9457 with our members. `hint` says what to do next, `param` names the field to change."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    fault: Fault
    retryable: bool
    hint: str | None = None
    param: str | None = None
    request_id: str | None = None
    errors: list[ProblemDetail] = Field(default_factory=list)
    error_counts: dict[str, int] = Field(
        default_factory=dict,
        description="Of a dataset's row errors, how many rows there are of each kind; `errors` holds the first 100.",
        examples=[{"`question` is missing.": 250}],
    )

    @classmethod
    def of(cls, error: CraftError, *, request_id: str | None = None) -> "Problem":
        """The problem document of an error of our tree; at most 100 details travel."""
        details = [
            ProblemDetail(message=d.message, field=d.field, line=d.line, excerpt=d.excerpt)
            for d in error.details[:_MOST_DETAILS]
        ]
        return cls(
            type=f"urn:craft:problem:{error.code}",
            title=error.code.replace("_", " ").capitalize(),
            status=error.status,
            detail=error.message,
            code=error.code,
            fault=error.fault,
            retryable=error.retryable,
            hint=error.hint,
            param=error.param,
            request_id=request_id,
            errors=details,
            error_counts=error.error_counts if isinstance(error, DatasetInvalid) else {},
        )


class StageError(Contract):
    """Why an attempt at a stage failed, as the worker reports it and the job shows it."""

    code: str
    message: str
    fault: Fault
    retryable: bool
    hint: str | None = None
    param: str | None = None
    errors: list[ProblemDetail] = Field(default_factory=list)
    exit_signal: int | None = None
    peak_memory_bytes: int | None = Field(None, description="The most that a process which died had resident.")
    last_log_lines: list[str] = Field(default_factory=list)

    @classmethod
    def of(cls, error: CraftError) -> "StageError":
        """The report of an error of our tree."""
        problem = Problem.of(error)
        return cls(
            code=problem.code,
            message=problem.detail,
            fault=problem.fault,
            retryable=problem.retryable,
            hint=problem.hint,
            param=problem.param,
            errors=problem.errors,
        )


class JobError(StageError):
    """A failed job's error: the failing stage's own, and where it was."""

    stage: str
    attempt: int
