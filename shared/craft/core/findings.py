"""Findings: what was noticed in data, a model or a stage's results that could make a number wrong.

An error finding stops the work, because going on would give a wrong result without a word. The caller may accept it by
its code; then it is a warning, and stays on record. Warnings never stop anything: they reach the report and the card.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from craft.errors import DatasetInvalid, FindingDetail, Severity

MAX_LINES = 10
MAX_EXAMPLES = 3


class FindingCode(StrEnum):
    """The kind of a finding, as it is named in `accept`."""

    REPEATED_QUESTIONS = "repeated_questions"
    """The same question comes in several rows."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The error findings that the caller accepts, by code."""

    codes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, codes: Collection[str]) -> "Acceptance":
        """The acceptance of these codes."""
        return cls(frozenset(codes))

    def apply(self, findings: Sequence[FindingDetail], *, param: str | None = None) -> list[FindingDetail]:
        """The findings, with each accepted error as a warning.

        Raises DatasetInvalid, with all findings, if an error is not accepted.
        """
        marked = [
            replace(each, severity=Severity.WARNING, accepted=True)
            if each.severity is Severity.ERROR and each.code in self.codes
            else each
            for each in findings
        ]
        open_errors = [each for each in marked if each.severity is Severity.ERROR]
        if open_errors:
            codes = ", ".join(f'"{code}"' for code in dict.fromkeys(each.code for each in open_errors))
            first = open_errors[0]
            raise DatasetInvalid(
                first.message,
                hint=f'{first.hint or "Change the data."} Or, if it is meant so, send "accept": [{codes}].',
                param=param or first.field,
                findings=marked,
            )
        return marked
