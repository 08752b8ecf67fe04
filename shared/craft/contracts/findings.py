"""Findings as they pass between processes; `craft.core.findings` says what they are for."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

from pydantic import Field

from craft.contracts.base import Contract
from craft.core.findings import FindingCode
from craft.errors import FindingDetail, Severity

Accept = Annotated[
    list[FindingCode],
    Field(
        max_length=len(FindingCode),
        description="Codes of error findings to go on with. They stay in the report as warnings.",
    ),
]


class Finding(Contract):
    """Something noticed that could make a result wrong. Errors stop the work unless `accept` names their code."""

    code: FindingCode
    severity: Severity
    message: str
    hint: str | None = Field(None, description="How to mend it.")
    field: str | None = Field(None, description="The column or the member of the request.")
    count: int = Field(1, ge=1, description="Rows, or replies, that have it.")
    lines: list[int] = Field(default_factory=list, description="The first 10 lines that have it, from 1.")
    examples: list[str] = Field(default_factory=list, description="At most 3 excerpts.")
    accepted: bool = Field(default=False, description="True for an error that the request accepted.")

    @classmethod
    def of(cls, detail: FindingDetail) -> "Finding":
        """The finding for a detail of the core."""
        return cls.model_validate(asdict(detail))

    def to_detail(self) -> FindingDetail:
        """The core's detail."""
        members = self.model_dump() | {"lines": tuple(self.lines), "examples": tuple(self.examples)}
        return FindingDetail(**members)


def findings_of(details: Sequence[FindingDetail]) -> list[Finding]:
    """The findings for details of the core."""
    return [Finding.of(each) for each in details]
