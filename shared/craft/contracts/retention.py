"""How long what jobs made is kept: by class, and the class by what made it."""

from collections.abc import Mapping
from enum import StrEnum

from craft.contracts.stages import StageKind


class RetentionClass(StrEnum):
    """What lies in the artifact store, by how long it is worth its space."""

    RESULT = "result"
    """What the job was for: adapters, reports, measures."""
    MODEL = "model"
    """Weights that training left, from which the results were made."""
    INTERMEDIATE = "intermediate"
    CHECKPOINT = "checkpoint"
    """What a later attempt at a stage can resume from."""
    SCRATCH = "scratch"
    """What an attempt wrote and did not publish."""
    ORPHAN = "orphan"
    """Published, but its report never came: no row knows it."""


RETENTION_OF: Mapping[StageKind, RetentionClass] = {
    **dict.fromkeys(StageKind, RetentionClass.INTERMEDIATE),
    StageKind.REHEARSE: RetentionClass.MODEL,
    StageKind.TUNE: RetentionClass.MODEL,
    StageKind.EVALUATE: RetentionClass.RESULT,
    StageKind.PACKAGE: RetentionClass.RESULT,
    StageKind.REPORT: RetentionClass.RESULT,
}
