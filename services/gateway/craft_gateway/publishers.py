"""What is published, and what a place to publish to must be able to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from craft.contracts.publishing import PublishTarget
from craft.contracts.rest_scoring import EvaluationDocument
from craft.core.selection import Strategy


@dataclass(frozen=True, slots=True)
class AdapterPackage:
    """An adapter's files with all that is told about them. The same publication always has the same package."""

    publication_id: str
    job_id: str
    job_name: str | None
    team: str
    strategy: Strategy
    digest: str
    base_model: str
    files: Mapping[str, Path]
    """By their path in the published folder; without README.md, which is `card`."""
    card: str
    parameters: Mapping[str, str]
    """The resolved specification, by dotted path."""
    evaluation: EvaluationDocument
    created_ms: int
    """When the publication was asked for, in milliseconds since 1970."""


class Published(NamedTuple):
    """Where it is now."""

    url: str
    version: str


class Publisher(Protocol):
    """A place. Publishing the same again must lead to the same state there, whatever an earlier attempt left."""

    def publish(self, package: AdapterPackage, target: PublishTarget) -> Published:
        """Raises PublishingRefused where only people can mend it, Unavailable where a later attempt may succeed."""
        ...
