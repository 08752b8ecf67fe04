"""Names of a job's stages, their order, and the inputs that hold evaluation sets.

A name is the stage's kind, or `kind:which`: which model is probed or scored (`initial`, `rehearsed`), which prompt M0
answers (`basic`, `refuse`), which strategy, or which evaluation set.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from craft.contracts.stages.kinds import StageKind
from craft.core.prompts import PromptMode
from craft.core.strategies import Strategy

HELD_OUT = "held_out"
"""The evaluation set that the job's own dataset gives; further sets have the names that the job gave them."""
QUESTIONS = "questions"
"""The role of the input that holds a stage's questions; `questions:<name>` holds those of a further evaluation set."""

EVALUATED = "evaluated:"
"""`evaluated:<name>`: the input of a split that holds a further evaluation set's dataset."""


def stage_name(kind: StageKind, which: str = "") -> str:
    """The name of one stage of the kind."""
    return f"{kind.value}:{which}" if which else kind.value


INGEST = stage_name(StageKind.INGEST)
PROBE_INITIAL = stage_name(StageKind.PROBE, "initial")
SCORE_INITIAL = stage_name(StageKind.SCORE, "initial")
REHEARSAL_SET = stage_name(StageKind.REHEARSAL_SET)
REHEARSE = stage_name(StageKind.REHEARSE)
PROBE_REHEARSED = stage_name(StageKind.PROBE, "rehearsed")
SCORE_REHEARSED = stage_name(StageKind.SCORE, "rehearsed")
FLOW = stage_name(StageKind.FLOW)
ANSWER_BASIC = stage_name(StageKind.ANSWER, PromptMode.BASIC)
ANSWER_REFUSE = stage_name(StageKind.ANSWER, PromptMode.REFUSE)
REPORT = stage_name(StageKind.REPORT)

REHEARSAL = (REHEARSAL_SET, REHEARSE, PROBE_REHEARSED, SCORE_REHEARSED, FLOW)
"""The stages that a job has only where one of its strategies needs the flow."""


def ingest_stage(evaluation_set: str) -> str:
    """The stage that holds an evaluation set's questions."""
    return INGEST if evaluation_set == HELD_OUT else stage_name(StageKind.INGEST, evaluation_set)


def tuning_set_stage(strategy: Strategy) -> str:
    """The stage that chooses a strategy's training rows."""
    return stage_name(StageKind.TUNING_SET, strategy)


def evaluate_stage(strategy: Strategy) -> str:
    """The stage that measures a strategy's model."""
    return stage_name(StageKind.EVALUATE, strategy)


def package_stage(strategy: Strategy) -> str:
    """The stage whose artifact holds a strategy's adapter for users."""
    return stage_name(StageKind.PACKAGE, strategy)


def kind_of(name: str) -> StageKind | None:
    """The kind of the stage; None for a kind that this version does not know."""
    with suppress(ValueError):
        return StageKind(name.partition(":")[0])
    return None


def which_of(name: str) -> str:
    """The part of the name after the kind; empty where there is none."""
    return name.partition(":")[2]


OWN_TITLES: Mapping[str, str] = {
    INGEST: "Read and split the dataset",
    PROBE_INITIAL: "Probe M0",
    PROBE_REHEARSED: "Probe the rehearsed model",
    SCORE_INITIAL: "Knowledge states of M0",
    SCORE_REHEARSED: "Knowledge states after rehearsal",
    ANSWER_BASIC: "Answer: M0 BASIC",
    ANSWER_REFUSE: "Answer: M0 REFUSE",
}
"""Titles of the stages that are not called by the title of their kind."""
_AT_ANOTHER_TIME: Mapping[StageKind, tuple[str, ...]] = {
    StageKind.REHEARSE: (PROBE_REHEARSED, SCORE_REHEARSED),
    StageKind.FLOW: (ANSWER_BASIC, ANSWER_REFUSE),
}
"""Stages that a job does apart from the others of their kind, by the kind that comes before them."""


def _order() -> Iterator[str]:
    for kind in StageKind:
        yield kind.value
        yield from _AT_ANOTHER_TIME.get(kind, ())


_ORDER = tuple(_order())


def position(name: str) -> int:
    """Sort key: the order in which a job does its stages. One kind's stages are equal; unknown names come last."""
    known = name if name in _ORDER else name.partition(":")[0]
    return _ORDER.index(known) if known in _ORDER else len(_ORDER)


def evaluated_role(evaluation_set: str) -> str:
    """The role of a further evaluation set's dataset, as the split of the job's own dataset reads it."""
    return f"{EVALUATED}{evaluation_set}"


def questions_role(evaluation_set: str) -> str:
    """The role of the input that holds an evaluation set's questions."""
    return QUESTIONS if evaluation_set == HELD_OUT else f"{QUESTIONS}:{evaluation_set}"


def evaluation_sets(roles: Iterable[str], *, own: str = QUESTIONS) -> dict[str, str]:
    """Roles of the inputs that hold evaluation sets, by the set's name: the held-out split, then the others in order.

    `own` is the role of the held-out split, and `own:<name>` that of a further set. It is `questions`, but `ingest` for
    the report, whose inputs are named by their stages.
    """
    prefix = f"{own}:"
    others = {role.removeprefix(prefix): role for role in roles if role.startswith(prefix)}
    return {HELD_OUT: own, **others}
