"""`diagnosis.json` of a probe: what explains a shortage of known or of unknown questions in a later stage."""

from craft.contracts.base import Contract
from craft.core.replies.diagnosis import Diagnosis, ShortageReason
from craft.core.replies.stopping import samples
from craft.errors import ErrorDetail, RehearsalTooShort, TooFewKnown, TooFewUnknown

DIAGNOSIS = "diagnosis"
"""The role of the input that holds the probe's diagnosis."""
DIAGNOSIS_FILE = "diagnosis.json"
ShortageError = TooFewKnown | TooFewUnknown | RehearsalTooShort


class ShortageView(Contract):
    """The most likely reason of a shortage, what to change, and at most three replies with their right answers."""

    reason: str
    change: str
    samples: list[str]

    @classmethod
    def of(cls, shortage: ShortageReason) -> "ShortageView":
        """The view of a shortage of the core."""
        return cls(reason=shortage.cause.reason, change=shortage.cause.change, samples=list(shortage.samples))


class ProbeDiagnosis(Contract):
    """The counts of a probe, and the explanation of each shortage."""

    seen: str
    few_known: ShortageView
    few_unknown: ShortageView

    @classmethod
    def of(cls, diagnosis: Diagnosis) -> "ProbeDiagnosis":
        """The document for a diagnosis of the core."""
        return cls(
            seen=diagnosis.seen,
            few_known=ShortageView.of(diagnosis.few_known),
            few_unknown=ShortageView.of(diagnosis.few_unknown),
        )

    def explained(self, error: ShortageError) -> ShortageError:
        """The error, with what the probe saw, the most likely reason, the samples, and what to change first."""
        shortage = self.few_unknown if isinstance(error, TooFewUnknown) else self.few_known
        message = error.message.rstrip(".")
        hint = f" Or: {error.hint}" if error.hint else ""
        return type(error)(
            f"{message}. {self.seen} Most likely {shortage.reason}.{samples(shortage.samples)}",
            hint=f"{shortage.change}{hint}",
            param=error.param,
            details=[ErrorDetail(message="A reply of the probe.", excerpt=sample) for sample in shortage.samples],
        )
