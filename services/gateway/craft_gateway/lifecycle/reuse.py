"""Stage keys and the artifacts that make a stage unnecessary."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence

from sqlalchemy import bindparam
from sqlalchemy import select as columns
from sqlmodel import Session, col, select

from craft.contracts.stages.artifacts import ArtifactRef, stage_key
from craft.contracts.stages.parameters import PARAMETERS
from craft_gateway.plan.stages import FromStage, PlannedStage, StageInput
from craft_gateway.store.tables import Artifact, Stage

ArtifactExists = Callable[[ArtifactRef], bool]
"""True if the artifact store still has it, undamaged. May be slow: never called inside a transaction that writes."""

_DIGEST = columns(col(Artifact.digest)).where(col(Artifact.key) == bindparam("key"))


def input_plan(stage: PlannedStage) -> dict[str, dict[str, object]]:
    """A planned stage's inputs as the table keeps them."""
    return {role: _kept(source) for role, source in stage.inputs.items()}


def resolved_inputs(stage: Stage, done: Mapping[str, ArtifactRef]) -> dict[str, ArtifactRef] | None:
    """The stage's inputs by role, or None while an earlier stage is not in `done`."""
    inputs: dict[str, ArtifactRef] = {}
    for role, source in stage.inputs.items():
        if "artifact" in source:
            inputs[role] = ArtifactRef.model_validate(source["artifact"])
        elif source["stage"] in done:
            inputs[role] = done[source["stage"]]
        else:
            return None
    return inputs


def key_of(stage: Stage, inputs: Mapping[str, ArtifactRef]) -> str:
    """The stage's key once its inputs are known."""
    return stage_key(PARAMETERS.validate_python(stage.parameters), inputs)


def done_stages(stages: Sequence[Stage]) -> dict[str, ArtifactRef]:
    """By name, what the stages that have succeeded made."""
    return {stage.name: ref for stage in stages if (ref := stage.artifact) is not None}


def reusable_of_plan(
    session: Session,
    stages: Iterable[PlannedStage],
    exists: ArtifactExists,
    *,
    recompute: Container[str] = (),
    done: Mapping[str, ArtifactRef] | None = None,
) -> dict[str, ArtifactRef]:
    """By name, the artifacts that stages could take over, as far as the store still has them.

    `stages` come in planned order; `done` says what others have made. Follows the graph: what one stage takes over may
    give the next one its key.
    """
    made, found = dict(done or {}), dict[str, ArtifactRef]()
    for stage in stages:
        sources = {role: made.get(s.name) if isinstance(s, FromStage) else s for role, s in stage.inputs.items()}
        inputs = {role: ref for role, ref in sources.items() if ref is not None}
        if len(inputs) < len(sources) or stage.name in recompute:
            continue
        ref = _canonical(session, stage_key(stage.parameters, inputs))
        if ref is not None and exists(ref):
            made[stage.name] = found[stage.name] = ref
    return found


def reusable(
    session: Session,
    stages: Sequence[Stage],
    exists: ArtifactExists,
    *,
    finished: Mapping[str, ArtifactRef] | None = None,
) -> dict[str, ArtifactRef]:
    """By key, what the waiting ones of a job's stages could take over; `finished` adds stages about to succeed."""
    done = {**done_stages(stages), **(finished or {})}
    waiting = [stage for stage in stages if stage.status.waits and stage.name not in done]
    recompute = {stage.name for stage in waiting if stage.recompute}
    found = reusable_of_plan(session, map(_planned, waiting), exists, recompute=recompute, done=done)
    return {ref.key: ref for ref in found.values()}


def used_by_team(session: Session, team: str, found: Mapping[str, ArtifactRef]) -> dict[str, ArtifactRef]:
    """Those of `found` that a job of the team made or took over before."""
    keys = {ref.key for ref in found.values()}
    query = select(Stage.artifact_key).where(Stage.team == team, col(Stage.artifact_key).in_(keys)).distinct()
    used = set(session.exec(query)) if keys else set()
    return {name: ref for name, ref in found.items() if ref.key in used}


def _canonical(session: Session, key: str) -> ArtifactRef | None:
    # Past the ORM: every new job asks for several, and needs no manifest.
    digest = session.connection().execute(_DIGEST, {"key": key}).scalar_one_or_none()
    return None if digest is None else ArtifactRef(key=key, digest=digest)


def _planned(stage: Stage) -> PlannedStage:
    inputs: dict[str, StageInput] = {
        role: ArtifactRef.model_validate(source["artifact"]) if "artifact" in source else FromStage(source["stage"])
        for role, source in stage.inputs.items()
    }
    return PlannedStage(stage.name, PARAMETERS.validate_python(stage.parameters), inputs)


def _kept(source: StageInput) -> dict[str, object]:
    if isinstance(source, FromStage):
        return {"stage": source.name}
    return {"artifact": source.model_dump(mode="json")}


def stages_of(session: Session, job_id: str) -> list[Stage]:
    """A job's stages in planned order."""
    return list(session.exec(select(Stage).where(Stage.job_id == job_id).order_by(col(Stage.position))))
