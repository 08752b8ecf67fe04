"""The kinds of stages, and the facts of each that more than one service needs."""

from collections.abc import Mapping
from enum import StrEnum


class Service(StrEnum):
    """A service with workers; its Celery queue has the same name."""

    DATASETS = "datasets"
    INFERENCE = "inference"
    SCORING = "scoring"
    TRAINING = "training"

    @property
    def uses_accelerator(self) -> bool:
        """Whether its stages run a language model: their seconds count against a team's GPU seconds."""
        return self in {Service.INFERENCE, Service.TRAINING}

    @property
    def locks_device(self) -> bool:
        """Whether its workers take the device lock, where the workers of one machine are given one."""
        # Scoring does, although it uses no GPU seconds: its sentence embedder would slow a language model on the same
        # processor down many times. But the embedder is small, most of a stage's time is spent elsewhere, and workers
        # of a machine of their own have no accelerator. Datasets stages run no model at all.
        return self is not Service.DATASETS


class StageKind(StrEnum):
    """What a stage computes. A stage's name is its kind, or `kind:which`."""

    INGEST = "ingest"
    PROBE = "probe"
    SCORE = "score"
    REHEARSAL_SET = "rehearsal_set"
    REHEARSE = "rehearse"
    FLOW = "flow"
    TUNING_SET = "tuning_set"
    TUNE = "tune"
    ANSWER = "answer"
    EVALUATE = "evaluate"
    PACKAGE = "package"
    REPORT = "report"


SERVICE_OF: Mapping[StageKind, Service] = {
    StageKind.INGEST: Service.DATASETS,
    StageKind.PROBE: Service.INFERENCE,
    StageKind.SCORE: Service.SCORING,
    StageKind.REHEARSAL_SET: Service.DATASETS,
    StageKind.REHEARSE: Service.TRAINING,
    StageKind.FLOW: Service.SCORING,
    StageKind.TUNING_SET: Service.DATASETS,
    StageKind.TUNE: Service.TRAINING,
    StageKind.ANSWER: Service.INFERENCE,
    StageKind.EVALUATE: Service.SCORING,
    StageKind.PACKAGE: Service.TRAINING,
    StageKind.REPORT: Service.SCORING,
}
CODE_VERSION: Mapping[StageKind, int] = {
    **dict.fromkeys(StageKind, 1),
    StageKind.REPORT: 2,  # `report.json` has a place for the estimate since.
    StageKind.PACKAGE: 2,  # The card holds the prompt's text since.
    # In bfloat16 a reply's roundings depend on what else is in the call, and so on how shards are cut.
    StageKind.PROBE: 2,
    StageKind.ANSWER: 3,
}
"""Raise a kind's number when its output changes for the same input: old artifacts are then not reused."""


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
