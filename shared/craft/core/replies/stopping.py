"""Stops a stage whose replies a guard calls unusable."""

from collections.abc import Sequence
from typing import NamedTuple

from craft.core.findings import Acceptance, hint_to_accept
from craft.errors import FindingDetail, RepliesUnusable, Severity


class QuestionsAsked(NamedTuple):
    """The questions that were asked so far, and those of the whole stage."""

    done: int
    total: int


def usable(findings: Sequence[FindingDetail], acceptance: Acceptance, progress: QuestionsAsked) -> list[FindingDetail]:
    """The findings, with each accepted error as a warning.

    Raises RepliesUnusable, with all findings and three samples in its message, if an error is not accepted.
    """
    marked = acceptance.marked(findings)
    errors = [each for each in marked if each.severity is Severity.ERROR]
    if errors:
        first = errors[0]
        raise RepliesUnusable(
            f"Stopped after {progress.done:,} of {progress.total:,} questions. "
            f"{first.message}{samples(first.examples)}",
            hint=hint_to_accept(errors, otherwise="Look at the replies."),
            param=first.field,
            findings=marked,
        )
    return marked


def samples(examples: Sequence[str]) -> str:
    """The excerpts as the end of a message; empty without any."""
    return f" Samples: {'; '.join(examples)}." if examples else ""
