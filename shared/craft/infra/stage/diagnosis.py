"""Explains a stage's shortage of questions by the probe's diagnosis."""

from collections.abc import Iterator
from contextlib import contextmanager

from craft.contracts.stages.diagnosis import DIAGNOSIS, DIAGNOSIS_FILE, ProbeDiagnosis
from craft.errors import RehearsalTooShort, TooFewKnown, TooFewUnknown
from craft.infra.stage.context import StageContext


@contextmanager
def explained_by_probe(context: StageContext) -> Iterator[None]:
    """Raise the block's TooFewKnown, TooFewUnknown or RehearsalTooShort with the diagnosis in the input `diagnosis`.

    Without that input the error stays as it is.
    """
    try:
        yield
    except (TooFewKnown, TooFewUnknown, RehearsalTooShort) as error:
        if DIAGNOSIS not in context.inputs:
            raise
        document = (context.inputs[DIAGNOSIS] / DIAGNOSIS_FILE).read_bytes()
        raise ProbeDiagnosis.model_validate_json(document).explained(error) from error
