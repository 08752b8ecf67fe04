"""Artifacts: their names, costs and manifests."""

import hashlib
from collections.abc import Mapping
from typing import Literal

import orjson
from pydantic import Field

from craft.contracts.base import Contract, Digest
from craft.contracts.findings import Finding
from craft.contracts.stages.kinds import FACTS, StageKind
from craft.contracts.stages.parameters import StageParameters


class ArtifactRef(Contract):
    """A reference to an immutable artifact: `key` identifies the computation, `digest` the resulting bytes."""

    key: Digest
    digest: Digest


class Cost(Contract):
    """The resources that a stage used. A reused stage costs nothing; its artifact keeps the original cost."""

    seconds: float = 0.0
    prompt_tokens: int = 0
    prefilled_tokens: int = Field(0, description="Prompt tokens that the model processed; shared prefixes count once.")
    generated_tokens: int = 0
    trained_tokens: int = 0
    peak_memory_bytes: int = Field(0, description="Of the stage's process on its host; 0 where it was not measured.")


class StageResult(Contract):
    """The result of a stage function, beside the files that it wrote."""

    counts: dict[str, int] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    cost: Cost = Field(default_factory=Cost)
    notes: list[str] = Field(default_factory=list)
    findings: list[Finding] = Field(default_factory=list, description="Warnings that the report and the card repeat.")
    versions: dict[str, str] = Field(default_factory=dict)


class ManifestFile(Contract):
    """One file of an artifact; `path` is relative, with forward slashes."""

    path: str
    bytes: int
    sha256: Digest


class Manifest(Contract):
    """`manifest.json` of an artifact. The digest covers the files, not times and costs."""

    key: Digest
    digest: Digest
    kind: StageKind | Literal["dataset"]
    code_version: int
    parameters: dict[str, object]
    inputs: dict[str, ArtifactRef]
    files: list[ManifestFile]
    result: StageResult

    @property
    def ref(self) -> ArtifactRef:
        """The reference to this artifact."""
        return ArtifactRef(key=self.key, digest=self.digest)


def canonical_json(value: object) -> bytes:
    """The one byte string of a value: sorted keys, no spaces, UTF-8."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def stage_key(parameters: StageParameters, inputs: Mapping[str, ArtifactRef]) -> str:
    """The key of a stage: SHA-256 (hex) of its kind, code version, parameters and inputs' digests."""
    return hashlib.sha256(
        canonical_json(
            {
                "kind": parameters.kind.value,
                "code_version": FACTS[parameters.kind].code_version,
                "parameters": parameters.model_dump(mode="json"),
                "inputs": {role: ref.digest for role, ref in inputs.items()},
            }
        )
    ).hexdigest()


def artifact_digest(files: Mapping[str, str]) -> str:
    """SHA-256 (hex) of an artifact's content: each file's path and SHA-256, in any order.

    The key is not part of it: if a stage computes the same bytes in another way, later stages keep their keys.
    """
    return hashlib.sha256(canonical_json({"files": dict(files)})).hexdigest()
