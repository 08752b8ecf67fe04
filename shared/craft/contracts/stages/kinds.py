"""The kinds of stages, and the one table of facts about each kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Service(StrEnum):
    """A service with workers; its Celery queue has the same name."""

    DATASETS = "datasets"
    INFERENCE = "inference"
    SCORING = "scoring"
    TRAINING = "training"

    @property
    def uses_accelerator(self) -> bool:
        """True if its stages run a language model: their seconds count against a team's GPU seconds."""
        return self in {Service.INFERENCE, Service.TRAINING}

    @property
    def locks_device(self) -> bool:
        """True if its workers take the device lock, where the workers of one machine are given one."""
        # Scoring does, although it uses no GPU seconds: its sentence embedder would slow a language model on the same
        # processor down many times. But the embedder is small, most of a stage's time is spent elsewhere, and workers
        # of a machine of their own have no accelerator. Datasets stages run no model at all.
        return self is not Service.DATASETS


class StageKind(StrEnum):
    """The computation of a stage. Members stand in the order in which a job first does them."""

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


class RetentionClass(StrEnum):
    """Content of the artifact store by how long it is kept."""

    RESULT = "result"
    """The job's results: adapters, reports, metrics."""
    MODEL = "model"
    """Weights that training left, from which the results were made."""
    INTERMEDIATE = "intermediate"
    CHECKPOINT = "checkpoint"
    """A later attempt at a stage can resume from it."""
    SCRATCH = "scratch"
    """Files that an attempt wrote and did not publish."""
    ORPHAN = "orphan"
    """Published, but its report never came: no row knows it."""
    DAMAGED = "damaged"
    """An artifact whose bytes changed after it was published, kept for people to look at."""


class WorkUnit(StrEnum):
    """The quantity that a stage's time grows with. The estimator knows how many of each a job has."""

    DATASET_QUESTIONS = "dataset_questions"
    """Questions of one dataset: the evaluation set's that the stage's name gives, else the job's own."""
    TRAIN_QUESTIONS = "train_questions"
    """Questions of the training split."""
    PROBE_REPLIES = "probe_replies"
    """A model's replies to the training split: N to each open question, one to each choice question."""
    REHEARSED_SAMPLES = "rehearsed_samples"
    """Rows of the rehearsal set, counted once an epoch."""
    TUNED_SAMPLES = "tuned_samples"
    """Rows of a tuning set, counted once an epoch."""
    EVALUATION_QUESTIONS = "evaluation_questions"
    """Questions of the held-out split and of the further evaluation sets."""
    ADAPTERS = "adapters"
    """One adapter: the time is the same for every job on a model."""

    @property
    def trained(self) -> bool:
        """True if it counts trained samples. A stage that trains writes its loss curve."""
        return self in {WorkUnit.REHEARSED_SAMPLES, WorkUnit.TUNED_SAMPLES}


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFacts:
    """All that services need to know about a kind of stage, beside its parameters."""

    service: Service
    """The service whose workers do it."""
    code_version: int
    """Part of the stage's key. Raise it when the output changes for the same input: old artifacts are then not reused.
    """
    weight: float
    """Relative cost, from runs of the demo job: a job's percent is the weighted share that is done."""
    retention: RetentionClass
    """The class that says when its artifact expires."""
    needs_model: bool
    """True if its time depends on the base model."""
    unit: WorkUnit
    """The quantity that its time grows with."""
    title: str
    """Its name in reports and on pages."""
    meaning: str
    """Its work, in a few words for a newcomer."""


FACTS: Mapping[StageKind, StageFacts] = {
    StageKind.INGEST: StageFacts(
        service=Service.DATASETS,
        code_version=2,  # Rows that ask the same are on one side.
        weight=0.5,
        retention=RetentionClass.INTERMEDIATE,
        needs_model=False,
        unit=WorkUnit.DATASET_QUESTIONS,
        title="Read the set",
        meaning="splits the questions into those to train with and those held out for the evaluation",
    ),
    StageKind.PROBE: StageFacts(
        service=Service.INFERENCE,
        # In bfloat16 a reply's roundings depend on the rest of its call, and so on how shards are cut. Replies have
        # finish reasons, and guards look at them. Chats have the job's arguments, and end where the template ends them.
        # The key has the engine's versions, device and options. Each letter's probability is computed in float32.
        code_version=6,
        weight=30.0,
        retention=RetentionClass.INTERMEDIATE,
        needs_model=True,
        unit=WorkUnit.PROBE_REPLIES,
        title="Probe",
        meaning="asks the model each question several times, to see what it knows",
    ),
    StageKind.SCORE: StageFacts(
        service=Service.SCORING,
        code_version=1,
        weight=4.0,
        retention=RetentionClass.INTERMEDIATE,
        needs_model=False,
        unit=WorkUnit.PROBE_REPLIES,
        title="Knowledge states",
        meaning="counts how often the replies are right, and how certain the model is",
    ),
    StageKind.REHEARSAL_SET: StageFacts(
        service=Service.DATASETS,
        code_version=2,  # Rows have the lines of their questions.
        weight=0.5,
        retention=RetentionClass.INTERMEDIATE,
        needs_model=False,
        unit=WorkUnit.TRAIN_QUESTIONS,
        title="Build the rehearsal set",
        meaning="picks what the model knows best",
    ),
    StageKind.REHEARSE: StageFacts(
        service=Service.TRAINING,
        # A run without a usable adapter fails; the form of chats is the job's; the key has versions and device. Memory
        # decides how a step is cut.
        code_version=5,
        weight=6.0,
        retention=RetentionClass.MODEL,
        needs_model=True,
        unit=WorkUnit.REHEARSED_SAMPLES,
        title="Rehearse",
        meaning="tunes on that for a moment, to see where the model's knowledge moves by itself",
    ),
    StageKind.FLOW: StageFacts(
        service=Service.SCORING,
        code_version=1,
        weight=0.5,
        retention=RetentionClass.INTERMEDIATE,
        needs_model=False,
        unit=WorkUnit.TRAIN_QUESTIONS,
        title="Knowledge flow",
        meaning="compares what it knew before and after",
    ),
    StageKind.TUNING_SET: StageFacts(
        service=Service.DATASETS,
        code_version=2,  # Rows have the lines of their questions.
        weight=0.5,
        retention=RetentionClass.INTERMEDIATE,
        needs_model=False,
        unit=WorkUnit.TRAIN_QUESTIONS,
        title="Build the tuning set",
        meaning="decides which questions teach their answer, which teach refusal, and which are dropped",
    ),
    StageKind.TUNE: StageFacts(
        service=Service.TRAINING,
        # As `rehearse`, and the base model may have 4 bits.
        code_version=5,
        weight=12.0,
        retention=RetentionClass.MODEL,
        needs_model=True,
        unit=WorkUnit.TUNED_SAMPLES,
        title="Tune",
        meaning="tunes a LoRA adapter on them",
    ),
    StageKind.ANSWER: StageFacts(
        service=Service.INFERENCE,
        code_version=7,  # For the reasons of `probe`.
        weight=6.0,
        retention=RetentionClass.INTERMEDIATE,
        needs_model=True,
        unit=WorkUnit.EVALUATION_QUESTIONS,
        title="Answer",
        meaning="answers the held-out questions, without and with the adapter",
    ),
    StageKind.EVALUATE: StageFacts(
        service=Service.SCORING,
        code_version=2,  # Outcomes have the finish reasons of replies.
        weight=1.0,
        retention=RetentionClass.RESULT,
        needs_model=False,
        unit=WorkUnit.EVALUATION_QUESTIONS,
        title="Evaluate",
        meaning="compares the answers: what was gained, and what it cost",
    ),
    StageKind.PACKAGE: StageFacts(
        service=Service.TRAINING,
        # The card shows findings and every setting of generation; the base's own tokenizer files, with the template of
        # the job's form of chats. The key has versions and device. After a tuning in 4 bits the replies on both bases
        # are compared. An idle adapter fails.
        code_version=7,
        weight=4.0,
        retention=RetentionClass.RESULT,
        needs_model=True,
        unit=WorkUnit.ADAPTERS,
        title="Package",
        meaning="makes the adapter's archive and its model card",
    ),
    StageKind.REPORT: StageFacts(
        service=Service.SCORING,
        code_version=4,  # It shows the findings, and doubts in its first lines.
        weight=1.0,
        retention=RetentionClass.RESULT,
        needs_model=False,
        unit=WorkUnit.DATASET_QUESTIONS,
        title="Report",
        meaning="writes the report",
    ),
}
