"""Errors in responses and failed jobs: RFC 9457 problem documents, and the same members in a job's error."""

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.findings import Finding, findings_of
from craft.errors import CraftError, DatasetInvalid, Fault

PROBLEM_MEDIA_TYPE = "application/problem+json"
_MAX_DETAILS = 100


class ProblemDetail(Contract):
    """One wrong place in the input; `line` counts from 1."""

    message: str
    field: str | None = None
    line: int | None = None
    excerpt: str | None = None


class Problem(Contract):
    """An RFC 9457 problem with our members. `hint` says what to do next; `param` names the field to change."""

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
        description="The number of rows with each kind of row error in a dataset; `errors` has the first 100.",
        examples=[{"`question` is missing.": 250}],
    )
    findings: list[Finding] = Field(
        default_factory=list,
        description="The errors that an `accept` needs, and the warnings beside them.",
    )

    @classmethod
    def of(cls, error: CraftError, *, request_id: str | None = None) -> "Problem":
        """The problem document for an error of our tree, with at most 100 details."""
        details = [
            ProblemDetail(message=d.message, field=d.field, line=d.line, excerpt=d.excerpt)
            for d in error.details[:_MAX_DETAILS]
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
            findings=findings_of(error.findings),
        )


class StageError(Contract):
    """The error of a failed attempt, as the worker reports it and the job shows it."""

    code: str
    message: str
    fault: Fault
    retryable: bool
    hint: str | None = None
    param: str | None = None
    errors: list[ProblemDetail] = Field(default_factory=list)
    findings: list[Finding] = Field(default_factory=list)
    exit_signal: int | None = None
    peak_memory_bytes: int | None = Field(None, description="The peak resident memory of a process that died.")
    last_log_lines: list[str] = Field(default_factory=list)

    @classmethod
    def of(cls, error: CraftError) -> "StageError":
        """The stage error for an error of our tree."""
        problem = Problem.of(error)
        return cls(
            code=problem.code,
            message=problem.detail,
            fault=problem.fault,
            retryable=problem.retryable,
            hint=problem.hint,
            param=problem.param,
            errors=problem.errors,
            findings=problem.findings,
        )


class JobError(StageError):
    """A failed job's error: the error of the failed stage, with the stage and the attempt."""

    stage: str
    attempt: int
