"""From a resolved job to its stages: a pure function. Parameters hold only what changes a stage's result."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from craft.contracts.base import Contract
from craft.contracts.job import JobSpec
from craft.contracts.stages import (
    SERVICE_OF,
    ArtifactRef,
    EngineRef,
    ModelRef,
    Service,
    StageKind,
    StageParameters,
)


class ResolvedJob(Contract):
    """A job with every default filled in and every name looked up. `evaluation` maps a set's name to its dataset."""

    spec: JobSpec = Field(description="With inline rows replaced by the stored dataset's id.")
    model: ModelRef
    engine: EngineRef
    embedder: str
    dataset: ArtifactRef
    evaluation: dict[str, ArtifactRef] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FromStage:
    """An input that an earlier stage of the same job makes."""

    name: str


StageInput = FromStage | ArtifactRef


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One node of the graph; `inputs` by role."""

    name: str
    parameters: StageParameters
    inputs: Mapping[str, StageInput]

    @property
    def kind(self) -> StageKind:
        """What it computes."""
        return self.parameters.kind

    @property
    def service(self) -> Service:
        """Who does it."""
        return SERVICE_OF[self.kind]

    @property
    def depends_on(self) -> tuple[str, ...]:
        """The stages whose artifacts it reads, once each."""
        return tuple(dict.fromkeys(source.name for source in self.inputs.values() if isinstance(source, FromStage)))


def plan(job: ResolvedJob) -> tuple[PlannedStage, ...]:
    """Every stage of the job, each after the stages it depends on."""
    raise NotImplementedError
